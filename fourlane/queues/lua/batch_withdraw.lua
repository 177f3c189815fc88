-- Take requests away, with all that is known of them, as far as they wait (KEYS[2] a zset), or as far as a batch has
-- them that is not submitted yet (KEYS[2] a set).
-- KEYS  1 the bodies, 2 those that wait or the batch's members, then the tickets
-- ARGV  the ids, in the order of the tickets
-- Reply how many were there
local BODIES, PLACE = KEYS[1], KEYS[2]
--@include bodies

local remove = redis.call('TYPE', PLACE).ok == 'set' and 'SREM' or 'ZREM'
local gone = {}
for i, id in ipairs(ARGV) do
    if redis.call(remove, PLACE, id) == 1 then
        gone[#gone + 1] = id
        redis.call('DEL', KEYS[2 + i])
    end
end
if #gone > 0 then drop_bodies(gone) end
return #gone
