-- Accept jobs that events make, all of one tier. An id that was accepted before is left out, finished or not.
-- KEYS  1 jobs, 2 the tier's ready list, 3 the tier's wake key, 4 delayed, 5 news
--       6 ids accepted on this day, 7 and 8 on the days beside it
-- ARGV  1 tier, 2 milliseconds to keep this day's ids, then for each job its entry, its body, and the time before
--       which it may not run (milliseconds since the epoch, 0: at once)
-- Reply the number of jobs that were not known
local JOBS, LIST, WAKE, DELAYED, NEWS, TODAY = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local tier, keep = ARGV[1], ARGV[2]
--@include entries
--@include time
--@include batches
--@include wholly
--@include delayed

local ids = {}
for i = 3, #ARGV, 3 do ids[#ids + 1] = id_of(ARGV[i]) end

local known = {}
each_piece(ids, function(first, last)
    for day = 6, 8 do
        for i, found in ipairs(redis.call('SMISMEMBER', KEYS[day], unpack(ids, first, last))) do
            if found == 1 then known[ids[first + i - 1]] = true end
        end
    end
    -- A job may live longer than its day: dead letters, long delays.
    for i, body in ipairs(redis.call('HMGET', JOBS, unpack(ids, first, last))) do
        if body then known[ids[first + i - 1]] = true end
    end
end)

local now = now_ms()
local fields, ready, delayed, taken = {}, {}, {}, {}
for i = 1, #ids do
    local id, due = ids[i], tonumber(ARGV[i * 3 + 2])
    if not known[id] then
        known[id] = true
        taken[#taken + 1] = id
        fields[#fields + 1] = id
        fields[#fields + 1] = ARGV[i * 3 + 1]
        if due > now then
            delayed[#delayed + 1] = due
            delayed[#delayed + 1] = id
        else
            ready[#ready + 1] = ARGV[i * 3]
        end
    end
end

local function write()
    all('HSET', JOBS, fields)
    note_undo('HDEL', JOBS, unpack(taken))
    if #ready > 0 then
        each_piece(ready, function(first, last) push(LIST, { unpack(ready, first, last) }) end)
        redis.call('ZADD', WAKE, 0, tier)
    end
    put_delayed(DELAYED, NEWS, delayed)
    all('SADD', TODAY, taken)
    redis.call('PEXPIRE', TODAY, keep)
end

if #taken > 0 then wholly(write) end
return #taken
