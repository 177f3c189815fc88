-- Note in the history that a scheduled job has ended.
-- KEYS  1 states, 2 fires, 3 the schedule's history
-- ARGV  1 schedule, 2 line
-- Reply 1 when a run was waiting for this end, and the schedule is due now; else 0
--@include time

local state = redis.call('HGET', KEYS[1], ARGV[1])
if not state then return 0 end -- removed meanwhile
redis.call('RPUSH', KEYS[3], ARGV[2])
if not string.find(state, '"queued_ms":', 1, true) then return 0 end
redis.call('ZADD', KEYS[2], now_ms(), ARGV[1])
return 1
