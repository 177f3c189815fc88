-- Keep a list of what is in use.
-- KEYS  1 the list
-- ARGV  1 now, 2 the time before which a member is forgotten (ms since the epoch), 3 the member
-- Reply 1
redis.call('ZADD', KEYS[1], ARGV[1], ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[2])
return 1
