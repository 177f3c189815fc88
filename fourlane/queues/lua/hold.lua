-- Take one of the places that there are, or hold it longer.
-- KEYS  1 who holds a place, until when
-- ARGV  1 places, 2 who asks, 3 how long a place is held at most (ms)
-- Reply 1 taken, 0 none is free
local PLACES = KEYS[1]
local most, who, hold_ms = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
--@include time

local now = now_ms()
redis.call('ZREMRANGEBYSCORE', PLACES, '-inf', string.format('%.0f', now))
-- One whose process died may hold its place still.
local held = redis.call('ZMSCORE', PLACES, who)[1]
if not held and redis.call('ZCARD', PLACES) >= most then return 0 end
redis.call('ZADD', PLACES, string.format('%.0f', now + hold_ms), who)
redis.call('PEXPIRE', PLACES, hold_ms)
return 1
