-- Put a job straight among the dead letters (import).
-- KEYS  the service's, then what the caller's connection sent last
-- ARGV  1 the call's number there, 2 dead letters to keep, 3 milliseconds to keep them, then five for
--       each: id, body, reason, record, died at
-- Reply the ids taken in
--@include keys
--@include entries
--@include time
--@include batches
--@include forget
--@include bury
--@include once
--@include wholly

return once(KEYS[FIRST_OWN_KEY], ARGV[1], function()
    local now, taken = now_ms(), {}
    for i = 4, #ARGV, 5 do
        local id = ARGV[i]
        if redis.call('HSETNX', JOBS, id, ARGV[i + 1]) == 1 then
            local died, reason, record = tonumber(ARGV[i + 4]), ARGV[i + 2], ARGV[i + 3]
            undo = {}
            note_undo('HDEL', JOBS, id)
            note_undo('HDEL', RECORDS, id)
            note_undo('HDEL', REASONS, id)
            wholly(bury, id, died, reason, record, tonumber(ARGV[2]), tonumber(ARGV[3]))
            taken[#taken + 1] = id
        end
    end
    return taken
end) or {}
