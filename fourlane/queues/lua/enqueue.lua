-- Accept jobs that may run now, all of one tier.
-- KEYS  1 jobs, 2 the tier's ready list, 3 the tier's wake key
-- ARGV  1 tier, then for each job its entry and its body
-- Reply the number accepted, then the ids that already belong to another job. An equal body under an equal
--       id is the same call repeated after a lost reply: accepted, and nothing is done.
local JOBS, LIST, WAKE = KEYS[1], KEYS[2], KEYS[3]
local tier = ARGV[1]
--@include entries
--@include accept

if #ARGV == 3 then
    local id = id_of(ARGV[2])
    if redis.call('HSETNX', JOBS, id, ARGV[3]) == 1 then
        redis.call('RPUSH', LIST, ARGV[2])
        redis.call('ZADD', WAKE, 0, tier)
        return { 1 }
    end
    if redis.call('HGET', JOBS, id) == ARGV[3] then return { 1 } end
    return { 0, id }
end

local given, taken = accept(JOBS, LIST, WAKE, tier, ARGV, 2)
return { given - #taken, unpack(taken) }
