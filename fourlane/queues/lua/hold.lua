-- Take one of a receiver's places, unless its breaker is open.
-- KEYS  1 who holds a place, until when, 2 the breaker
-- ARGV  1 places, 2 who asks, 3 how long a place is held at most (ms)
-- Reply 0 taken, -1 none is free, else milliseconds until the breaker may be tried
local PLACES, BREAKER = KEYS[1], KEYS[2]
local most, who, hold_ms = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
--@include time

local open_ms = redis.call('PTTL', BREAKER)
if open_ms > 0 then return open_ms end
local now = now_ms()
redis.call('ZREMRANGEBYSCORE', PLACES, '-inf', string.format('%.0f', now))
-- One whose process died may hold its place still.
local held = redis.call('ZMSCORE', PLACES, who)[1]
if not held and redis.call('ZCARD', PLACES) >= most then return -1 end
redis.call('ZADD', PLACES, string.format('%.0f', now + hold_ms), who)
redis.call('PEXPIRE', PLACES, hold_ms)
return 0
