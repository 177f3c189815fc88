-- Drop dead letters for good.
-- KEYS  the service's, then what the caller's connection sent last
-- ARGV  1 the call's number there, then ids
-- Reply the number dropped, in a list
--@include keys
--@include entries
--@include batches
--@include forget
--@include once

return once(KEYS[FIRST_OWN_KEY], ARGV[1], function()
    local dropped = 0
    for i = 2, #ARGV do
        local tier = tier_of(ARGV[i])
        if DEAD[tier] and redis.call('ZREM', DEAD[tier], ARGV[i]) == 1 then
            redis.call('HDEL', REASONS, ARGV[i])
            forget({ ARGV[i] .. '|r' })
            redis.call('HINCRBY', STATS, 'discarded:' .. tier, 1)
            dropped = dropped + 1
        end
    end
    return { dropped }
end)
