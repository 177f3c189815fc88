-- Accept jobs that may not run yet.
-- KEYS  1 jobs, 2 delayed, 3 news, 4 what the producer's connection sent last
-- ARGV  1 the call's number there, then for each job its id, its body, "in" or "at", and milliseconds from now or
--       since the epoch
-- Reply as enqueue.lua's
local JOBS, DELAYED, NEWS, SENT = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local number = ARGV[1]
--@include time
--@include once
--@include wholly
--@include delayed

local function accept_delayed()
    local now = now_ms()
    local taken, added = {}, {}
    for i = 2, #ARGV, 4 do
        local id, body, due = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 3])
        if ARGV[i + 2] == 'in' then due = now + due end
        if redis.call('HSETNX', JOBS, id, body) == 1 then
            added[#added + 1] = due
            added[#added + 1] = id
        elseif redis.call('HGET', JOBS, id) ~= body then
            taken[#taken + 1] = id
        end
    end
    if #added > 0 then
        note_undo_pairs('HDEL', JOBS, added, 2)
        put_delayed(DELAYED, NEWS, added)
    end
    return taken
end

local taken = once(SENT, number, function() return wholly(accept_delayed) end) or {}
return taken.err and taken or { (#ARGV - 1) / 4 - #taken, unpack(taken) }
