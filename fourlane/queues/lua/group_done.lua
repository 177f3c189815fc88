-- Note that a member of a group is done. One that ran twice, its worker having died in between, counts once; the one
-- that made the group complete is told so each time, for the callbacks may not have been sent.
-- KEYS  1 the group
-- ARGV  1 the member's id, 2 milliseconds to keep a group that is complete
-- Reply 1 the group is complete by this one, 0 it is not, -1 the group is not known
local GROUP, id = KEYS[1], ARGV[1]

local total = tonumber(redis.call('HGET', GROUP, '!total') or '')
if not total then return -1 end
if redis.call('HSETNX', GROUP, id, 1) == 0 then return redis.call('HGET', GROUP, '!last') == id and 1 or 0 end
if redis.call('HLEN', GROUP) <= total then return 0 end -- one of the fields is the total
redis.call('HSET', GROUP, '!last', id)
redis.call('PEXPIRE', GROUP, ARGV[2])
return 1
