-- Drop waiting jobs of one tier, 1000 a call: the ready ones, then the delayed ones.
-- KEYS  the service's, then what the caller's connection sent last
-- ARGV  1 the call's number there, 2 the tier, 3 how many delayed ones this sweep has passed over
--       because they are of another tier
-- Reply the number dropped, the number passed over, 1 when there is no more
--@include keys
--@include entries
--@include batches
--@include forget
--@include once

return once(KEYS[FIRST_OWN_KEY], ARGV[1], function()
    local tier, skip = ARGV[2], tonumber(ARGV[3])
    local entries = redis.call('LPOP', READY[tier], 1000) or {}
    local empty = #entries < 1000
    local passed = 0
    if #entries == 0 then
        local delayed = redis.call('ZRANGE', DELAYED, skip, skip + 999)
        empty = #delayed < 1000
        for _, entry in ipairs(delayed) do
            if tier_of(entry) == tier then entries[#entries + 1] = entry else passed = passed + 1 end
        end
        if #entries > 0 then all('ZREM', DELAYED, entries) end
    else
        empty = false
    end
    for i, entry in ipairs(entries) do entries[i] = with_record(entry) end
    if #entries > 0 then forget(entries) end
    if redis.call('LLEN', READY[tier]) == 0 then redis.call('HDEL', STATS, 'void:' .. tier) end
    return { #entries, passed, empty and 1 or 0 }
end)
