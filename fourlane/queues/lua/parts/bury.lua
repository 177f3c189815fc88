-- Needs keys, entries, batches, forget. Make a job a dead letter; keep no more than `most`, none older than `ttl`.
local DROPS_AT_ONCE = 20
local dropped_letters = 0

local function drop_dead(tier, ids)
    for i = 1, #ids do ids[i] = ids[i] .. '|r' end
    local plain = forget(ids)
    redis.call('HDEL', REASONS, unpack(plain))
    redis.call('ZREM', DEAD[tier], unpack(plain))
    redis.call('HINCRBY', STATS, 'dropped:' .. tier, #plain)
    dropped_letters = dropped_letters + #plain
end

local function trim_dead(tier, now, most, ttl)
    local old = redis.call('ZRANGEBYSCORE', DEAD[tier], '-inf', now - ttl, 'LIMIT', 0, DROPS_AT_ONCE)
    local over = redis.call('ZCARD', DEAD[tier]) - #old - most
    if over > 0 then
        local first = #old
        for _, id in ipairs(redis.call('ZRANGE', DEAD[tier], first, first + math.min(over, DROPS_AT_ONCE) - 1)) do
            old[#old + 1] = id
        end
    end
    if #old > 0 then drop_dead(tier, old) end
    return #old
end

-- The last write decides: a refusal of another leaves no dead letter behind.
local function bury(entry, now, reason, record, most, ttl)
    local id, tier = id_of(entry), tier_of(entry)
    trim_dead(tier, now, most - 1, ttl)
    if record ~= '' then redis.call('HSET', RECORDS, id, record) end
    redis.call('HSET', REASONS, id, reason)
    redis.call('HINCRBY', STATS, 'dead:' .. tier, 1)
    redis.call('ZADD', DEAD[tier], now, id)
end
