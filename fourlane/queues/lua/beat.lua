-- Keep workers' leases alive and tell what was cancelled.
-- KEYS  1 workers, 2 cancels, 3 jobs
-- ARGV  1 milliseconds of silence that count as death, 2 since when cancelled jobs are to be told (Redis's time),
--       3 how many of these to pass over, then the workers' lease names
-- Reply 1 the names that hold nothing any more, 2 the ids of jobs that were cancelled while they ran, at most 1,000,
--       3 the time, 4 1 when there are more of them
local WORKERS, CANCELS, JOBS = KEYS[1], KEYS[2], KEYS[3]
local MOST, KEPT = 1000, 3600000
--@include time

local now = now_ms()
local lost = {}
for i = 4, #ARGV do
    if redis.call('ZSCORE', WORKERS, ARGV[i]) then
        redis.call('ZADD', WORKERS, 'XX', now + ARGV[1], ARGV[i])
    else
        lost[#lost + 1] = ARGV[i]
    end
end
local cancelled = redis.call('ZRANGEBYSCORE', CANCELS, ARGV[2], '+inf', 'LIMIT', ARGV[3], MOST)
local page = #cancelled
if page > 0 then
    -- A job that ended before its worker was told leaves its mark behind.
    local there, running = redis.call('HMGET', JOBS, unpack(cancelled)), {}
    for i = 1, page do
        if there[i] then running[#running + 1] = cancelled[i] else redis.call('ZREM', CANCELS, cancelled[i]) end
    end
    cancelled = running
    redis.call('ZREMRANGEBYSCORE', CANCELS, '-inf', now - KEPT)
end
return { lost, cancelled, string.format('%.0f', now), page == MOST and 1 or 0 }
