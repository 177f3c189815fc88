-- Drop dead letters over their age or number, and stale marks; some at a time.
-- KEYS  the service's
-- ARGV  1 dead letters to keep, 2 milliseconds to keep them
-- Reply the number dropped
--@include keys
--@include entries
--@include time
--@include batches
--@include forget
--@include bury

local now, dropped = now_ms(), 0
for tier in pairs(DEAD) do dropped = dropped + trim_dead(tier, now, tonumber(ARGV[1]), tonumber(ARGV[2])) end
redis.call('ZREMRANGEBYSCORE', CANCELS, '-inf', now - 3600000)
redis.call('ZREMRANGEBYSCORE', UNKNOWN, '-inf', now - 172800000)
return dropped
