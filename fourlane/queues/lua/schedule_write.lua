-- Add, change, pause and remove schedules: all that is asked, or nothing when one of them is not as it was read.
-- KEYS  1 schedules, 2 states, 3 fires, 4 declared, 5 lateness, then the history of each schedule, and what
--       the caller's connection sent last
-- ARGV  1 the call's number there, 2 the number of declaring modules; for each: its name, what was read of it, what to
--       write ("" removes it)
--       then for each schedule: name, state as read ("" when it is new), definition ("" keeps it, "-" removes the
--       schedule), new state, when it is due (0: never)
-- Reply in a list 1 done, 0 somebody else changed something
--@include once

local SCHEDULES, STATES, FIRES, DECLARED, LATENESS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local first = 3 + tonumber(ARGV[2]) * 3

return once(KEYS[#KEYS], ARGV[1], function()
    for i = 3, first - 1, 3 do
        if (redis.call('HGET', DECLARED, ARGV[i]) or '') ~= ARGV[i + 1] then return { 0 } end
    end
    for i = first, #ARGV, 5 do
        if (redis.call('HGET', STATES, ARGV[i]) or '') ~= ARGV[i + 1] then return { 0 } end
    end

    for i = 3, first - 1, 3 do
        if ARGV[i + 2] == '' then
            redis.call('HDEL', DECLARED, ARGV[i])
        else
            redis.call('HSET', DECLARED, ARGV[i], ARGV[i + 2])
        end
    end
    for i = first, #ARGV, 5 do
        local name, definition, state, due = ARGV[i], ARGV[i + 2], ARGV[i + 3], tonumber(ARGV[i + 4])
        if definition == '-' then
            redis.call('HDEL', SCHEDULES, name)
            redis.call('HDEL', STATES, name)
            redis.call('ZREM', FIRES, name)
            redis.call('HDEL', LATENESS, name)
            redis.call('DEL', KEYS[6 + (i - first) / 5])
        else
            if definition ~= '' then redis.call('HSET', SCHEDULES, name, definition) end
            redis.call('HSET', STATES, name, state)
            if due > 0 then redis.call('ZADD', FIRES, due, name) else redis.call('ZREM', FIRES, name) end
        end
    end
    return { 1 }
end)
