-- What was claimed is done: remember it for a while, and give the claim up.
-- KEYS  1 the claim, 2 ids of what was done on this day
-- ARGV  1 the id, 2 who had the claim, 3 milliseconds to keep this day's ids
-- Reply 1
local CLAIM, TODAY = KEYS[1], KEYS[2]
local id, who, keep_ms = ARGV[1], ARGV[2], ARGV[3]

redis.call('SADD', TODAY, id)
redis.call('PEXPIRE', TODAY, keep_ms)
if redis.call('GET', CLAIM) == who then redis.call('DEL', CLAIM) end
return 1
