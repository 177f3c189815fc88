-- Be the only one that does something for a time, unless it is done.
-- KEYS  1 the claim, 2-4 ids of what was done on this day and on the days beside it
-- ARGV  1 the id, 2 who asks, 3 for how long (ms)
-- Reply "mine" when it has the claim, also when it had it before; "others", "done"
local CLAIM = KEYS[1]
local id, who, hold_ms = ARGV[1], ARGV[2], ARGV[3]

for day = 2, 4 do
    if redis.call('SMISMEMBER', KEYS[day], id)[1] == 1 then return 'done' end
end
local holder = redis.call('GET', CLAIM)
if holder and holder ~= who then return 'others' end
redis.call('SET', CLAIM, who, 'PX', hold_ms)
return 'mine'
