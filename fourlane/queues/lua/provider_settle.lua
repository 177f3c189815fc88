-- Book how a call to a provider ended, or that it gave its first sign of life.
-- KEYS  1 the target's state, 2 what the caller's connection sent last
-- ARGV  1 the call's number there
--       2 verdict: ok, down (the breaker counts it), limited (it asked for silence), neutral (says nothing of its
--         health); alive: it goes on, its first sign of life came
--       3 the second of the reservation, 4 tokens to add to what was reserved there, may be negative
--       5 the claim of a probe, else 0, 6 failures that open the breaker, 7 milliseconds it stays open
--       8 milliseconds of silence that the provider asked for: 0 none, -1 unknown (1 s, doubled each time up to 60)
--       9 who calls, a number that is the same for all tries of a call
--       10 milliseconds after which one that did not fail may probe, doubled each time that it fails too
-- Reply consecutive failures, milliseconds until the breaker lets anyone through (0: it is closed)
--       A call that comes again is booked once.
--@include time
--@include first_reply

local STATE, SENT = KEYS[1], KEYS[2]
local call, verdict, second, extra = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local claim, most, open_ms, silence = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local caller, probe_ms = tonumber(ARGV[9]), tonumber(ARGV[10])
local KEEP_MS = 86400000
local REMEMBERED = 64 -- of so many at a time that always fail; a look at the state reads them all

local now = now_ms()
local read = redis.call('HMGET', STATE, 't:' .. second, 'failures', 'strikes', 'opened_until', 'silent_until', 'opened',
    'probe_until', 'probe_ms', 'closed_at', 'failed', 'well_at')
local function number(place) return tonumber(read[place] or 0) or 0 end
local failures, strikes, opened_until, silent_until, opened = number(2), number(3), number(4), number(5), number(6)
local probe_until, probed_ms, closed_at, failed, well_at = number(7), number(8), number(9), number(10), number(11)
-- One that took too long may have been followed by another, which its end leaves alone.
local probe = claim > 0 and claim == probe_until

local booked = {}
local function book(field, value)
    booked[#booked + 1] = field
    booked[#booked + 1] = string.format('%.0f', value)
end

-- The last that failed lie in failed1, failed2 … A call counts once, however often it fails, and also when others
-- succeeded meanwhile: what fails alone, again and again, is at fault itself. Returns whether this one is new.
local function count()
    local places = {}
    for i = 1, REMEMBERED do places[i] = 'failed' .. i end
    for _, one in ipairs(redis.call('HMGET', STATE, unpack(places))) do
        if tonumber(one or -1) == caller then return false end
    end
    book('failed' .. failed % REMEMBERED + 1, caller)
    book('failed', failed + 1)
    failures = failures + 1
    book('failures', failures)
    return true
end

-- Anyone may probe after open_ms.
local function open()
    opened_until = now + open_ms
    book('opened_until', opened_until)
    book('opened', opened + 1)
    book('probe_until', 0)
end

-- Who is none of those that failed may probe after wait_ms.
local function hold(wait_ms)
    wait_ms = math.min(wait_ms, open_ms)
    book('probe_ms', wait_ms)
    book('probe_at', now + wait_ms)
end

-- How long at first, when it opens.
local function first_wait()
    if closed_at + open_ms < now then return probe_ms end
    -- Soon after it closed it goes on where it was: the provider was not yet well. Or it was, to others than those.
    return well_at < closed_at and math.max(probed_ms, probe_ms) * 2 or math.max(probed_ms / 2, probe_ms)
end

local function close()
    opened_until = 0
    book('opened_until', 0)
    book('probe_until', 0)
    book('closed_at', now)
    book('ramped', 0)
end

if extra ~= 0 and read[1] then book('t:' .. second, number(1) + extra) end
if verdict == 'ok' or verdict == 'alive' then
    if strikes > 0 then book('strikes', 0) end
    -- Only a probe closes it, also one that took so long that another followed: an answer to a call from before says
    -- nothing of now.
    if claim > 0 and opened_until > 0 then close() end
    -- Calls end well since it closed: the provider is well, whatever fails next to them.
    if claim == 0 and opened_until == 0 and well_at < closed_at then book('well_at', now) end
    if failures > 0 and opened_until == 0 then
        failures = 0
        book('failures', 0)
    end
elseif verdict == 'down' then
    local new = count()
    if probe then
        open()
        -- One that had failed before may be at fault itself: the others need not wait for it.
        if new then hold(math.max(probed_ms, probe_ms) * 2) end
    elseif failures >= most and opened_until == 0 then
        if closed_at + open_ms < now then book('opened_at', now) end
        open()
        hold(first_wait())
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
