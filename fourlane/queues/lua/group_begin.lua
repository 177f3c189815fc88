-- A group begins: it is complete when so many members are done.
-- KEYS  1 the group
-- ARGV  1 the number of its members, 2 milliseconds to keep it
-- Reply 1
redis.call('HSET', KEYS[1], '!total', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
