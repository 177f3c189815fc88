-- Accept jobs that may run now, all of one tier.
-- KEYS  1 jobs, 2 the tier's ready list, 3 the tier's wake key
-- ARGV  1 tier, then for each job its entry and its body
-- Reply the number accepted, then the ids that already belong to another job. An equal body under an equal
--       id is the same call repeated after a lost reply: accepted, and nothing is done.
local JOBS, LIST, WAKE = KEYS[1], KEYS[2], KEYS[3]
local tier = ARGV[1]
--@include entries

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

local ids = {}
for i = 2, #ARGV, 2 do ids[#ids + 1] = id_of(ARGV[i]) end
local present = redis.call('HMGET', JOBS, unpack(ids))
local fields, entries, taken, met = {}, {}, {}, {}
for i = 1, #ids do
    local body = ARGV[i * 2 + 1]
    local other = present[i] or met[ids[i]]
    if not other then
        met[ids[i]] = body
        entries[#entries + 1] = ARGV[i * 2]
        fields[#fields + 1] = ids[i]
        fields[#fields + 1] = body
    elseif other ~= body then
        taken[#taken + 1] = ids[i]
    end
end
if #entries > 0 then
    redis.call('HSET', JOBS, unpack(fields))
    redis.call('RPUSH', LIST, unpack(entries))
    redis.call('ZADD', WAKE, 0, tier)
end
return { #ids - #taken, unpack(taken) }
