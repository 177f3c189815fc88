-- Book how a call to a provider ended.
-- KEYS  1 the target's state
-- ARGV  1 verdict: ok, down (the breaker counts it), limited (it asked for silence), neutral (says nothing of its health)
--       2 the second of the reservation, 3 tokens to add to what was reserved there, may be negative
--       4 1 when the call was a probe, 5 failures that open the breaker, 6 milliseconds it stays open
--       7 milliseconds of silence that the provider asked for: 0 none, -1 unknown (1 s, doubled each time up to 60)
-- Reply consecutive failures, milliseconds until the breaker lets a probe through (0: it is closed)
--@include time

local STATE = KEYS[1]
local verdict, second, extra = ARGV[1], ARGV[2], tonumber(ARGV[3])
local probe, most, open_ms, silence = ARGV[4] == '1', tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local KEEP_MS = 86400000

local now = now_ms()
local function number(field) return tonumber(redis.call('HGET', STATE, field) or 0) or 0 end

if extra ~= 0 and redis.call('HEXISTS', STATE, 't:' .. second) == 1 then
    redis.call('HINCRBY', STATE, 't:' .. second, extra)
end

local failures = number('failures')
local opened_until = number('opened_until')
if verdict == 'ok' then
    if failures > 0 or number('strikes') > 0 then redis.call('HSET', STATE, 'failures', 0, 'strikes', 0) end
    failures = 0
    -- Only the probe closes it: an answer to a call from before says nothing of now.
    if probe and opened_until > 0 then
        redis.call('HSET', STATE, 'opened_until', 0, 'probe_until', 0, 'closed_at', now, 'ramped', 0)
        opened_until = 0
    end
elseif verdict == 'down' then
    failures = redis.call('HINCRBY', STATE, 'failures', 1)
    if probe or (failures >= most and opened_until <= 0) then
        opened_until = now + open_ms
        redis.call('HSET', STATE, 'opened_until', opened_until, 'probe_until', 0)
        redis.call('HINCRBY', STATE, 'opened', 1)
    end
elseif probe then
    redis.call('HSET', STATE, 'probe_until', 0) -- the next call may probe
end
if verdict == 'limited' and silence < 0 then
    silence = math.min(60000, 1000 * 2 ^ (redis.call('HINCRBY', STATE, 'strikes', 1) - 1))
end
if silence > 0 and number('silent_until') < now + silence then
    redis.call('HSET', STATE, 'silent_until', string.format('%.0f', now + silence))
end
redis.call('PEXPIRE', STATE, KEEP_MS)
return { failures, math.max(0, opened_until - now) }
