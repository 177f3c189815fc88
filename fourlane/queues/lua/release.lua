-- Give a claim up.
-- KEYS  1 the claim
-- ARGV  1 who had it
-- Reply 1 when that one had it still, else 0
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
