-- Book how a call to a provider ended.
-- KEYS  1 the target's state, 2 what the caller's connection sent last
-- ARGV  1 the call's number there
--       2 verdict: ok, down (the breaker counts it), limited (it asked for silence), neutral (says nothing of its health)
--       3 the second of the reservation, 4 tokens to add to what was reserved there, may be negative
--       5 1 when the call was a probe, 6 failures that open the breaker, 7 milliseconds it stays open
--       8 milliseconds of silence that the provider asked for: 0 none, -1 unknown (1 s, doubled each time up to 60)
-- Reply consecutive failures, milliseconds until the breaker lets a probe through (0: it is closed)
--       A call that comes again is booked once.
--@include time
--@include first_reply

local STATE, SENT = KEYS[1], KEYS[2]
local call, verdict, second, extra = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local probe, most, open_ms, silence = ARGV[5] == '1', tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local KEEP_MS = 86400000

local now = now_ms()
local read = redis.call('HMGET', STATE, 't:' .. second, 'failures', 'strikes', 'opened_until', 'silent_until', 'opened')
local function number(place) return tonumber(read[place] or 0) or 0 end
local failures, strikes, opened_until, silent_until = number(2), number(3), number(4), number(5)

local booked = {}
local function book(field, value)
    booked[#booked + 1] = field
    booked[#booked + 1] = string.format('%.0f', value)
end

if extra ~= 0 and read[1] then book('t:' .. second, number(1) + extra) end
if verdict == 'ok' then
    if failures > 0 then book('failures', 0) end
    if strikes > 0 then book('strikes', 0) end
    failures = 0
    -- Only the probe closes it: an answer to a call from before says nothing of now.
    if probe and opened_until > 0 then
        opened_until = 0
        book('opened_until', 0)
        book('probe_until', 0)
        book('closed_at', now)
        book('ramped', 0)
    end
elseif verdict == 'down' then
    failures = failures + 1
    book('failures', failures)
    if probe or (failures >= most and opened_until <= 0) then
        opened_until = now + open_ms
        book('opened_until', opened_until)
        book('probe_until', 0)
        book('opened', number(6) + 1)
    end
elseif probe then
    book('probe_until', 0) -- the next call may probe
end
if verdict == 'limited' and silence < 0 then
    book('strikes', strikes + 1)
    silence = math.min(60000, 1000 * 2 ^ strikes)
end
if silence > 0 and silent_until < now + silence then book('silent_until', now + silence) end

local reply = { failures, math.max(0, opened_until - now) }
if #booked > 0 then
    local before = first_reply(SENT, call, reply)
    if before then return before end
    redis.call('HSET', STATE, unpack(booked))
end
redis.call('PEXPIRE', STATE, KEEP_MS)
return reply
