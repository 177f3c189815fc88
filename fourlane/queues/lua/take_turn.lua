-- Take a turn at calling somebody who takes so many calls a second. Two turns are a step apart, and whoever is given one
-- has it. Who would wait for too long is told to come again when those who were told so before are through.
-- KEYS  1 the turns of this account
-- ARGV  1 the step (ms), 2 how long the caller waits at most (ms)
-- Reply 1 and milliseconds until its turn; or 0 and milliseconds after which to come again
--       A call that comes again takes another turn, and the first is nobody's.
--@include time
local TURNS = KEYS[1]
local step, patience = tonumber(ARGV[1]), tonumber(ARGV[2])
local MOST_MS = 3600000

local now = now_ms()
local known = redis.call('HMGET', TURNS, 'next', 'line')
local next_at = math.max(now, tonumber(known[1] or '0'))
local reply
if next_at - now <= patience then
    redis.call('HSET', TURNS, 'next', string.format('%.3f', next_at + step))
    reply = { 1, math.ceil(next_at - now) }
else
    local line_at = math.min(math.max(next_at, tonumber(known[2] or '0')), now + MOST_MS)
    redis.call('HSET', TURNS, 'line', string.format('%.3f', line_at + step))
    reply = { 0, math.ceil(line_at - now) }
end
redis.call('PEXPIRE', TURNS, MOST_MS * 2)
return reply
