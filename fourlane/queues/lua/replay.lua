-- Make dead letters ready again: same ids, their history kept, attempts counted anew.
-- KEYS  the service's
-- ARGV  1 milliseconds to wait before the first, 2 milliseconds between two, then ids
-- Reply the ids replayed
--@include keys
--@include entries
--@include time
--@include wake

local now, start, step = now_ms(), tonumber(ARGV[1]), tonumber(ARGV[2])
local replayed = {}
for i = 3, #ARGV do
    local id = ARGV[i]
    local tier = tier_of(id)
    if DEAD[tier] and redis.call('ZSCORE', DEAD[tier], id) and redis.call('HEXISTS', JOBS, id) == 1 then
        local due = start + step * (i - 3)
        redis.call('HDEL', CRASHES, id)
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
