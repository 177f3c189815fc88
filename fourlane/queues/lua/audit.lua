-- Note what an operator did; the newest records are kept.
-- KEYS  1 audit
-- ARGV  1 the record, 2 how many to keep
redis.call('LPUSH', KEYS[1], ARGV[1])
redis.call('LTRIM', KEYS[1], 0, ARGV[2] - 1)
return 1
