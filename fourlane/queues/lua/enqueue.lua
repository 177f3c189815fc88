-- Accept jobs that may run now, all of one tier.
-- KEYS  1 jobs, 2 the tier's ready list, 3 the tier's wake key, 4 what the producer's connection sent last
-- ARGV  1 the call's number there, 2 tier, then for each job its entry and its body
-- Reply the number accepted, then the ids that already belong to another job. An equal body under an equal
--       id is the same job given twice: accepted, and nothing is done.
local JOBS, LIST, WAKE, SENT = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local number, tier = ARGV[1], ARGV[2]
--@include entries
--@include accept
--@include once

local taken = once(SENT, number, function()
    if #ARGV > 4 then return accept(JOBS, LIST, WAKE, tier, ARGV, 3) end
    local id, body = id_of(ARGV[3]), ARGV[4]
    if redis.call('HSETNX', JOBS, id, body) == 1 then
        redis.call('RPUSH', LIST, ARGV[3])
        redis.call('ZADD', WAKE, 0, tier)
    elseif redis.call('HGET', JOBS, id) ~= body then
        return { id }
    end
    return {}
end)
if taken.err then return taken end
return { #ARGV / 2 - 1 - #taken, unpack(taken) }
