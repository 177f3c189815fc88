-- Note in the history that a scheduled job has ended.
-- KEYS  1 states, 2 fires, 3 the schedule's history, 4 what the caller's connection sent last
-- ARGV  1 the call's number there, 2 schedule, 3 line
-- Reply 1 in a list when a run was waiting for this end, and the schedule is due now; else an empty one
--@include time
--@include once

return once(KEYS[4], ARGV[1], function()
    local state = redis.call('HGET', KEYS[1], ARGV[2])
    if not state then return nil end -- removed meanwhile
    redis.call('RPUSH', KEYS[3], ARGV[3])
    if not string.find(state, '"queued_ms":', 1, true) then return nil end
    redis.call('ZADD', KEYS[2], now_ms(), ARGV[2])
    return { 1 }
end) or {}
