-- Be the only one that runs something for a time.
-- KEYS  1 the claim
-- ARGV  1 who asks, 2 for how long (ms)
-- Reply 1 when it has the claim, also when it had it before; 0 another one has it
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
