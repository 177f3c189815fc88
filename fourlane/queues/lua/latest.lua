-- Remember the latest time told under a key.
-- KEYS  1 the key
-- ARGV  1 a time (whole number), 2 how long to remember (ms)
-- Reply 1
local known = tonumber(redis.call('GET', KEYS[1]) or '-1')
if tonumber(ARGV[1]) >= known then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
return 1
