-- Accept a job that may run now, unless one was accepted under the same key before.
-- KEYS  1 jobs, 2 the tier's ready list, 3 the tier's wake key, 4 the key's own
-- ARGV  1 tier, 2 how long to remember the key (ms), 3 the job's id, 4 its body
-- Reply the id of the job that holds the key: the one given when it was accepted, also by an earlier call
--       whose reply was lost; false when the id belongs to another job.
local JOBS, LIST, WAKE, ONCE = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local tier, ttl_ms, id, body = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

--@include wholly

local held = redis.call('GET', ONCE)
if held then return held end
if redis.call('HSETNX', JOBS, id, body) == 0 then return false end
return wholly(function()
    note_undo('HDEL', JOBS, id)
    redis.call('SET', ONCE, id, 'PX', ttl_ms)
    note_undo('DEL', ONCE)
    push(LIST, { id })
    redis.call('ZADD', WAKE, 0, tier)
    return id
end)
