-- Count a request of a sender, unless it comes too often.
-- KEYS  1 by when its requests so far would all have come, had they come evenly (microseconds)
-- ARGV  1 microseconds between two that come evenly, 2 how many may come at once
-- Reply 0 when it may pass, else milliseconds after which one may
local BUSY = KEYS[1]
local apart, at_once = tonumber(ARGV[1]), tonumber(ARGV[2])

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local busy = math.max(now, tonumber(redis.call('GET', BUSY) or 0))
local early = busy - now - (at_once - 1) * apart
if early > 0 then return math.ceil(early / 1000) end
busy = busy + apart
redis.call('SET', BUSY, string.format('%.0f', busy), 'PX', string.format('%.0f', math.ceil((busy - now) / 1000)))
return 0
