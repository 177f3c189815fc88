-- Needs BODIES. What requests say that wait for a batch, and how many bytes they are.
local BYTES = '#' -- no id is that

local function bytes_of_bodies()
    return tonumber(redis.call('HGET', BODIES, BYTES) or 0)
end

local function count_bytes(more)
    redis.call('HSET', BODIES, BYTES, string.format('%.0f', math.max(0, bytes_of_bodies() + more)))
end

local function drop_bodies(ids)
    local bytes = 0
    for _, id in ipairs(ids) do bytes = bytes + redis.call('HSTRLEN', BODIES, id) end
    if bytes == 0 then return end
    redis.call('HDEL', BODIES, unpack(ids))
    count_bytes(0 - bytes)
end
