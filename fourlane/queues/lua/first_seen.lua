-- Remember what was first seen under a key.
-- KEYS  1 the key
-- ARGV  1 what is seen now, 2 how long to remember (ms)
-- Reply what was seen first
local known = redis.call('GET', KEYS[1])
if known then return known end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
