-- Make dead letters ready again: same ids, their history kept, attempts counted anew.
-- KEYS  the service's
-- ARGV  four for each: id, the time of its death as it was read, milliseconds to wait, its record as it shall be
--       (attempts counted anew; "" leaves it as it is)
-- Reply the ids replayed; one that died again meanwhile is not among them
--@include keys
--@include entries
--@include time
--@include wake

local now = now_ms()
local replayed = {}
for i = 1, #ARGV, 4 do
    local id, due, record = ARGV[i], tonumber(ARGV[i + 2]), ARGV[i + 3]
    local tier = tier_of(id)
    local died = DEAD[tier] and redis.call('ZSCORE', DEAD[tier], id)
    if died and tonumber(died) == tonumber(ARGV[i + 1]) and redis.call('HEXISTS', JOBS, id) == 1 then
        redis.call('HDEL', CRASHES, id, id .. '|q')
        if record ~= '' then redis.call('HSET', RECORDS, id, record) end
        if due > 0 then
            redis.call('ZADD', DELAYED, now + due, id .. '|r')
            tell('d')
        else
            redis.call('RPUSH', READY[tier], ready_since(id .. '|r', now))
            wake(tier)
        end
        redis.call('HDEL', REASONS, id)
        redis.call('ZREM', DEAD[tier], id)
        redis.call('HINCRBY', STATS, 'replayed:' .. tier, 1)
        replayed[#replayed + 1] = id
    end
end
return replayed
