-- Needs keys, entries, clock, touch. The limits of a service's queues (queues/limit.py): a tier may be paused, may run
-- so many jobs at once, which hold SLOTS, and begin so many in a time, for which BUCKETS has the level.
local function read_limits(text)
    local read, by_tier = pcall(cjson.decode, text)
    by_tier = read and type(by_tier) == 'table' and by_tier or {}
    local limits = { room_in = nil } -- milliseconds until a rate has room for one more

    local function allowed_by_rate(limit, tier, count)
        touched, its_type = BUCKETS, 'hash'
        local burst = limit.burst or limit.rate
        local bucket = redis.call('HMGET', BUCKETS, tier .. 'level', tier .. 'time')
        local since = math.max(0, clock() - (tonumber(bucket[2]) or 0))
        local level = math.min(burst, (tonumber(bucket[1]) or burst) + since * limit.rate / limit.per_ms)
        redis.call('HSET', BUCKETS, tier .. 'level', level, tier .. 'time', clock())
        if count <= math.floor(level) then return count end
        local wait = math.ceil((math.floor(level) + 1 - level) * limit.per_ms / limit.rate)
        limits.room_in = math.min(limits.room_in or wait, wait)
        return math.floor(level)
    end

    -- How many jobs of a tier its pause, concurrency and rate allow now.
    function limits.allowed(tier, count)
        local limit = by_tier[tier]
        if not limit then return count end
        if limit.paused then return 0 end
        if limit.concurrency then
            touched, its_type = SLOTS[tier], 'set'
            count = math.max(0, math.min(count, limit.concurrency - redis.call('SCARD', SLOTS[tier])))
        end
        return limit.rate and count > 0 and allowed_by_rate(limit, tier, count) or count
    end

    function limits.spend(tier, entries)
        local limit = by_tier[tier]
        if limit and limit.rate then redis.call('HINCRBYFLOAT', BUCKETS, tier .. 'level', -#entries) end
        if limit and limit.concurrency then
            for _, entry in ipairs(entries) do redis.call('SADD', SLOTS[tier], id_of(entry)) end
        end
    end

    -- It was taken, and does not begin.
    function limits.spare(entry)
        local tier = tier_of(entry)
        local limit = by_tier[tier]
        if limit and limit.rate then redis.call('HINCRBYFLOAT', BUCKETS, tier .. 'level', 1) end
        if limit and limit.concurrency then redis.call('SREM', SLOTS[tier], id_of(entry)) end
    end

    return limits
end
