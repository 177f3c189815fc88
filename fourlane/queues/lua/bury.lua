-- Put a job straight among the dead letters (import).
-- KEYS  the service's
-- ARGV  1 dead letters to keep, 2 milliseconds to keep them, then five for each: id, body, reason, record, died at
-- Reply the ids taken in
--@include keys
--@include entries
--@include time
--@include batches
--@include forget
--@include bury

local now, taken = now_ms(), {}
for i = 3, #ARGV, 5 do
    local id = ARGV[i]
    if redis.call('HSETNX', JOBS, id, ARGV[i + 1]) == 1 then
        bury(id, tonumber(ARGV[i + 4]), ARGV[i + 2], ARGV[i + 3], tonumber(ARGV[1]), tonumber(ARGV[2]))
        taken[#taken + 1] = id
    end
end
return taken
