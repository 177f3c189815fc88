-- Accept jobs that may run now, all of one tier.
-- KEYS  1 jobs, 2 the tier's ready list, 3 the tier's wake key, 4 what the producer's connection sent last
-- ARGV  1 the call's number there, 2 tier, then for each job its entry and its body
-- Reply the number accepted, then the ids that already belong to another job. An equal body under an equal
--       id is the same job given twice: accepted, and nothing is done.
local JOBS, LIST, WAKE, SENT = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local number, tier = ARGV[1], ARGV[2]
--@include once

-- One job, and nothing made that only many need: even a function costs.
if #ARGV == 4 then
    local taken = once(SENT, number, function()
        local entry, body = ARGV[3], ARGV[4]
        local id = string.match(entry, '^[^|]*')
        if redis.call('HSETNX', JOBS, id, body) == 1 then
            redis.call('RPUSH', LIST, entry)
            redis.call('ZADD', WAKE, 0, tier)
        elseif redis.call('HGET', JOBS, id) ~= body then
            return { id }
        end
    end)
    if not taken then return { 1 } end
    return taken.err and taken or { 1 - #taken, unpack(taken) }
end

--@include entries
--@include accept

local taken = once(SENT, number, function() return accept(JOBS, LIST, WAKE, tier, ARGV, 3) end) or {}
return taken.err and taken or { #ARGV / 2 - 1 - #taken, unpack(taken) }
