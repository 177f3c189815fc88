-- Drop waiting jobs of one tier, 1000 a call: the parked ones, or else the ready ones and then the delayed ones.
-- KEYS  the service's, then what the caller's connection sent last
-- ARGV  1 the call's number there, 2 the tier, 3 "parked" or "", 4 how many this sweep has passed over, because they are
--       of another tier
-- Reply the number dropped, the number passed over, 1 when there is no more
--@include keys
--@include entries
--@include time
--@include clock
--@include waits
--@include batches
--@include wake
--@include forget
--@include lines
--@include once

local AT_ONCE = 1000
local tier, skip = ARGV[2], tonumber(ARGV[4])

-- Those of the tier in a piece of a sorted set, and how many are not.
local function of_tier(key, entry_of)
    local dropped, members, passed = {}, {}, 0
    local some = redis.call('ZRANGE', key, skip, skip + AT_ONCE - 1)
    for _, member in ipairs(some) do
        local entry = entry_of(member)
        if tier_of(entry) == tier then
            dropped[#dropped + 1] = entry
            members[#members + 1] = member
        else
            passed = passed + 1
        end
    end
    if #members > 0 then all('ZREM', key, members) end
    return dropped, passed, #some < AT_ONCE
end

local function waiting()
    local ready = redis.call('LPOP', READY[tier], AT_ONCE)
    if ready then return ready, 0, false end
    return of_tier(DELAYED, function(entry) return entry end)
end

return once(KEYS[FIRST_OWN_KEY], ARGV[1], function()
    local entries, passed, empty
    if ARGV[3] == 'parked' then
        entries, passed, empty = of_tier(PARKED, function(member) return string.match(member, '^%S+ %d+!? (.*)$') end)
    else
        entries, passed, empty = waiting()
    end
    for i, entry in ipairs(entries) do entries[i] = with_record(entry) end
    if #entries > 0 then forget(entries) end
    give_up_places(entries)
    if redis.call('LLEN', READY[tier]) == 0 then redis.call('HDEL', STATS, 'void:' .. tier) end
    return { #entries, passed, empty and 1 or 0 }
end)
