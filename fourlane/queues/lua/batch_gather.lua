-- Move requests that wait into a batch that is being made, the oldest first.
-- KEYS  1 those that wait, 2 their bodies, 3 the batch's members
-- ARGV  1 the most to move, 2 the most bytes of those, 3 how long the batch is kept at most (ms)
-- Reply bytes moved, 1 when some still wait but would pass the most bytes, then the ids that were moved
local WAITING, BODIES, MEMBERS = KEYS[1], KEYS[2], KEYS[3]
local most_bytes = tonumber(ARGV[2])

local bytes, full, moved = 0, 0, {}
for _, id in ipairs(redis.call('ZRANGE', WAITING, 0, tonumber(ARGV[1]) - 1)) do
    local size = redis.call('HSTRLEN', BODIES, id)
    if bytes + size > most_bytes then
        full = 1
        break
    end
    bytes, moved[#moved + 1] = bytes + size, id
end
if #moved > 0 then
    redis.call('SADD', MEMBERS, unpack(moved))
    redis.call('PEXPIRE', MEMBERS, ARGV[3])
    redis.call('ZREM', WAITING, unpack(moved))
end
return { bytes, full, unpack(moved) }
