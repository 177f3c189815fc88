-- Tell who waits for a result how a job ended that brought none so far. Reads only.
-- KEYS  1 the service's jobs, 2 its reasons, 3 the job's result, 4 its cancel
-- ARGV  1 the job's id
-- Reply "waited for": it may bring one; "kept": it has; "dead" and the reason; "cancelled"; "told to end": it ran then,
--       and did not come back; "gone"
local body = redis.call('HGET', KEYS[1], ARGV[1])
if body == '' then return { 'cancelled' } end
if body then
    local reason = redis.call('HGET', KEYS[2], ARGV[1])
    return reason and { 'dead', reason } or { 'waited for' }
end
if redis.call('EXISTS', KEYS[3]) == 1 then return { 'kept' } end
return { redis.call('EXISTS', KEYS[4]) == 1 and 'told to end' or 'gone' }
