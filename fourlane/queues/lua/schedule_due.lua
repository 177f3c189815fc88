-- What a scheduler has to do now, and the time. One scheduler at a time is the leader while something is due: that
-- only saves work, for schedule_fire.lua lets nothing happen twice.
-- KEYS  1 fires, 2 schedules, 3 states, 4 lead
-- ARGV  1 the scheduler's name, 2 milliseconds to lead, 3 how many milliseconds ahead to look, 4 how many to take
-- Reply 1 the time, 2 "idle", "busy" or "due"
--       3 idle: milliseconds until the next one is due, -1 when there is none; busy: until the leader's time is over
--       due: names, their definitions, their states
local FIRES, SCHEDULES, STATES, LEAD = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local me, lead, ahead, most = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
--@include time
--@include batches

local now = now_ms()
local first = redis.call('ZRANGE', FIRES, 0, 0, 'WITHSCORES')
if not first[2] then return { now, 'idle', -1 } end
local wait = tonumber(first[2]) - now
if wait > ahead then return { now, 'idle', wait } end
local leader = redis.call('GET', LEAD)
if leader and leader ~= me then return { now, 'busy', math.max(1, redis.call('PTTL', LEAD)) } end
redis.call('SET', LEAD, me, 'PX', lead)
local names = redis.call('ZRANGEBYSCORE', FIRES, '-inf', now + ahead, 'LIMIT', 0, most)

local function read(key)
    local texts = {}
    each_piece(names, function(first, last)
        for i, text in ipairs(redis.call('HMGET', key, unpack(names, first, last))) do texts[first + i - 1] = text end
    end)
    return texts
end
return { now, 'due', names, read(SCHEDULES), read(STATES) }
