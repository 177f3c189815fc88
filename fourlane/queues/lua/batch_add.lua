-- Put a request where it waits for a batch, unless it was put there before.
-- KEYS  1 its ticket, 2 those that wait, 3 their bodies, 4 the collections
-- ARGV  1 its id, 2 whose it is, 3 its body, 4 the collection's name, 5 how long all this is kept at most (ms),
--       6 the most requests that may wait, 7 the most bytes
-- Reply "added", "known" (it was there before), or "full" (nothing was done)
--@include time

local TICKET, WAITING, BODIES, COLLECTIONS = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local id, about, body, name, keep_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
--@include bodies

if redis.call('EXISTS', TICKET) == 1 then return 'known' end
local is_full = redis.call('ZCARD', WAITING) >= tonumber(ARGV[6]) or bytes_of_bodies() + #body > tonumber(ARGV[7])
if is_full then return 'full' end
local now = string.format('%.0f', now_ms())
redis.call('HSET', TICKET, 'about', about)
redis.call('HSET', BODIES, id, body)
count_bytes(#body)
redis.call('ZADD', WAITING, now, id)
redis.call('ZADD', COLLECTIONS, now, name)
for i = 1, 4 do redis.call('PEXPIRE', KEYS[i], keep_ms) end
return 'added'
