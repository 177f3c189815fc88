-- Note that a program declares here what its code says: which data this is, and when that was.
-- KEYS  1 the environment's "data"
-- ARGV  1 an id for the data when it has none yet, 2 "begin", "lost": all is declared anew, or "done": it has been
-- Reply 1 the data's id, 2 the time of the last declaration
local DATA = KEYS[1]
--@include time

redis.call('HSETNX', DATA, 'id', ARGV[1])
if ARGV[2] ~= 'lost' then redis.call('HDEL', DATA, 'lost_ms') end
if ARGV[2] ~= 'done' then
    local before = tonumber(redis.call('HGET', DATA, 'declared_ms')) or 0
    local now = string.format('%.0f', math.max(before, now_ms())) -- clocks are set back
    redis.call('HSET', DATA, 'declared_ms', now)
    if ARGV[2] == 'lost' then redis.call('HSET', DATA, 'lost_ms', now) end
end
return redis.call('HMGET', DATA, 'id', 'declared_ms')
