-- Tell how many jobs of a service are not over: at one moment, for a job that moves is nowhere between two looks.
-- KEYS  the service's
-- Reply the number
--@include keys

local count = redis.call('HLEN', JOBS) - redis.call('HEXISTS', JOBS, CONTROL)
for _, key in pairs(DEAD) do count = count - redis.call('ZCARD', key) end
return count
