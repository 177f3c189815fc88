-- Cancel a job in whatever state it is.
-- KEYS  the service's, then the leased sets of its workers, the job's note that it was cancelled as it ran, its result,
--       and what the caller's connection sent last
-- ARGV  1 the call's number there, 2 the job's id, 3 the body of the job that tells the callbacks of one that
--       never ran ("": it has none, nor are any told of how one ends that runs), 4 what who waits for the result of such
--       a one is told ("": nobody is), 5 milliseconds to keep that, then those workers' names
-- Reply in a list the state that it was in (ready, delayed, running, dead) or "cancelled" or "unknown"; "again" when
--       another worker came meanwhile, which may be the one that runs it
--@include keys
--@include entries
--@include time
--@include clock
--@include waits
--@include batches
--@include wake
--@include forget
--@include leases
--@include lines
--@include once
--@include telling
--@include waiters
--@include cancelled

local NOTE, RESULT = KEYS[#KEYS - 2], KEYS[#KEYS - 1]
local id, telling, value, keep_ms = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local FIRST_NAME = 6

local function tell_that_it_never_ran()
    if telling ~= '' then send_telling(id, telling, now_ms()) end
    if value ~= '' then tell_waiters(RESULT, value, keep_ms) end
end

return once(KEYS[#KEYS], ARGV[1], function()
    local body = redis.call('HGET', JOBS, id)
    if not body then return { 'unknown' } end
    if body == '' then return { 'cancelled' } end
    local tier = tier_of(id)
    if DEAD[tier] and redis.call('ZREM', DEAD[tier], id) == 1 then
        redis.call('HDEL', REASONS, id)
        forget({ with_record(id) })
        return { 'dead' }
    end
    if redis.call('ZREM', DELAYED, id, with_record(id)) > 0 then
        tell_that_it_never_ran()
        forget({ with_record(id) })
        give_up_places({ id })
        return { 'delayed' }
    end
    for i = FIRST_OWN_KEY, #KEYS - 3 do
        for _, entry in ipairs(redis.call('SMEMBERS', KEYS[i])) do
            if id_of(entry) == id then
                mark_cancelled(id, telling ~= '', now_ms())
                -- Its worker may not hear of it before the job ends of itself, and does not come back.
                redis.call('SET', NOTE, '1', 'PX', 3600000)
                return { 'running' }
            end
        end
    end
    if not knows_all_workers(FIRST_NAME) then return { 'again' } end
    -- It waits in a list, or parked. A void body makes the lease pass over it, in one step however long the list is.
    tell_that_it_never_ran()
    if string.byte(body, -1) == NAMES_LINES then give_up_places({ id }) end
    redis.call('HINCRBY', STATS, 'void:' .. tier, 1)
    redis.call('HSET', JOBS, id, '')
    return { 'ready' }
end)
