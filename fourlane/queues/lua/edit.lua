-- Replace the body of a dead letter; no other job may be rewritten.
-- KEYS  the service's
-- ARGV  1 id, 2 the body that was read, 3 the new body
-- Reply 1 done, 0 it is no dead letter, -1 somebody else changed it meanwhile
--@include keys
--@include entries

local id = ARGV[1]
if not DEAD[tier_of(id)] or not redis.call('ZSCORE', DEAD[tier_of(id)], id) then return 0 end
local body = redis.call('HGET', JOBS, id)
if body == ARGV[3] then return 1 end -- by an earlier call, whose reply was lost
if body ~= ARGV[2] then return -1 end
redis.call('HSET', JOBS, id, ARGV[3])
return 1
