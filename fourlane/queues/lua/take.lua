-- Remember ids that were handled, for a while.
-- KEYS  1 the set of this day
-- ARGV  1 milliseconds to keep the set, then the ids
-- Reply 1
redis.call('SADD', KEYS[1], unpack(ARGV, 2))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
