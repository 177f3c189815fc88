-- A worker leaves: it holds nothing and will take nothing more. What it was given and never heard of goes back.
-- KEYS  the service's, then the worker's leased set, what remembers which of its jobs done were counted, and what the
--       caller's connection sent last
-- ARGV  1 the call's number there, 2 the worker's lease name, 3 jobs done that it has not told of (parts/count_done.lua)
-- Reply the number of jobs that went back, in a list
--@include keys
--@include entries
--@include time
--@include clock
--@include waits
--@include batches
--@include forget
--@include wake
--@include telling
--@include cancelled
--@include count_done
--@include lines
--@include once

return once(KEYS[#KEYS], ARGV[1], function()
    local held = redis.call('SMEMBERS', KEYS[FIRST_OWN_KEY])
    local limited = redis.call('HEXISTS', JOBS, CONTROL) == 1
    table.sort(held)
    local over = {}
    for i = #held, 1, -1 do
        local entry = held[i]
        local mark = was_cancelled(id_of(entry))
        if mark then
            forget_cancelled(entry, mark, now_ms())
            over[#over + 1] = entry
        else
            redis.call('LPUSH', READY[tier_of(entry)], entry)
        end
        if limited then redis.call('SREM', SLOTS[tier_of(entry)], id_of(entry)) end
    end
    give_up_places(over)
    count_done(ARGV[3], KEYS[FIRST_OWN_KEY + 1])
    redis.call('DEL', KEYS[FIRST_OWN_KEY])
    redis.call('ZREM', WORKERS, ARGV[2])
    -- It may have taken a token that it did not use.
    wake_all()
    return { #held }
end)
