-- Keep workers' leases alive and tell what was cancelled.
-- KEYS  1 workers, 2 cancels
-- ARGV  1 milliseconds of silence that count as death, then the workers' lease names
-- Reply 1 the names that hold nothing any more, 2 the ids of running jobs that were cancelled
local WORKERS, CANCELS = KEYS[1], KEYS[2]
--@include time

local now = now_ms()
local lost = {}
for i = 2, #ARGV do
    if redis.call('ZSCORE', WORKERS, ARGV[i]) then
        redis.call('ZADD', WORKERS, 'XX', now + ARGV[1], ARGV[i])
    else
        lost[#lost + 1] = ARGV[i]
    end
end
local cancelled = redis.call('ZRANGE', CANCELS, 0, 999)
if #cancelled > 0 then
    -- A job that ended before its worker was told leaves its mark behind: an hour is enough for any.
    redis.call('ZREMRANGEBYSCORE', CANCELS, '-inf', now - 3600000)
end
return { lost, cancelled }
