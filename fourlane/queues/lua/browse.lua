-- The depths and oldest ages of a service. Reads only, and scans nothing.
-- KEYS  the service's
-- Reply for each tier: ready, void among them, oldest ready since, dead,
--       done ever (-1: never counted); then delayed, next due, parked, workers, control, now
--@include keys
--@include entries
--@include waits
--@include time

local reply = {}
for tier = 0, 3 do
    local key = tostring(tier)
    local head = redis.call('LINDEX', READY[key], 0)
    reply[#reply + 1] = redis.call('LLEN', READY[key])
    local counted = redis.call('HMGET', STATS, 'void:' .. key, 'done:' .. key)
    reply[#reply + 1] = tonumber(counted[1] or 0)
    reply[#reply + 1] = string.format('%.0f', head and waiting_since(head) or 0)
    reply[#reply + 1] = redis.call('ZCARD', DEAD[key])
    reply[#reply + 1] = tonumber(counted[2] or -1)
end
local first = redis.call('ZRANGE', DELAYED, 0, 0, 'WITHSCORES')
-- Closed lines lie among them.
reply[#reply + 1] = redis.call('ZCARD', DELAYED) - tonumber(redis.call('HGET', STATS, 'closed') or 0)
reply[#reply + 1] = first[2] or ''
reply[#reply + 1] = redis.call('ZCARD', PARKED)
reply[#reply + 1] = redis.call('ZCARD', WORKERS)
reply[#reply + 1] = redis.call('HGET', JOBS, CONTROL) or ''
reply[#reply + 1] = string.format('%.0f', now_ms())
return reply
