-- Tell who waits for a result of an end that no run had.
-- KEYS  1 the result's key
-- ARGV  1 value for who waits, 2 milliseconds to keep it
redis.call('DEL', KEYS[1])
redis.call('RPUSH', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
