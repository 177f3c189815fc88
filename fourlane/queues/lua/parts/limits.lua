-- Needs keys, entries, batches, wake, clock, touch. The limits of a service's queues (queues/limit.py): a tier may be
-- paused, may run so many jobs at once, which hold SLOTS, and begin so many in a time, for which BUCKETS has the level.
local room_in -- milliseconds until a rate has room for one more

local function read_limits(text)
    local read, limits = pcall(cjson.decode, text)
    return read and type(limits) == 'table' and limits or {}
end

local function allowed_by_rate(limit, tier, count)
    touched, its_type = BUCKETS, 'hash'
    local burst = limit.burst or limit.rate
    local bucket = redis.call('HMGET', BUCKETS, tier .. 'level', tier .. 'time')
    local since = math.max(0, clock() - (tonumber(bucket[2]) or 0))
    local level = math.min(burst, (tonumber(bucket[1]) or burst) + since * limit.rate / limit.per_ms)
    redis.call('HSET', BUCKETS, tier .. 'level', level, tier .. 'time', clock())
    if count <= math.floor(level) then return count end
    local wait = math.ceil((math.floor(level) + 1 - level) * limit.per_ms / limit.rate)
    room_in = math.min(room_in or wait, wait)
    return math.floor(level)
end

-- How many jobs of a tier its pause, concurrency and rate allow now.
local function allowed(limit, tier, count)
    if limit.paused then return 0 end
    if limit.concurrency then
        touched, its_type = SLOTS[tier], 'set'
        count = math.max(0, math.min(count, limit.concurrency - redis.call('SCARD', SLOTS[tier])))
    end
    return limit.rate and count > 0 and allowed_by_rate(limit, tier, count) or count
end

local function spend(limit, tier, entries)
    if limit.rate then redis.call('HINCRBYFLOAT', BUCKETS, tier .. 'level', -#entries) end
    if limit.concurrency then
        for _, entry in ipairs(entries) do redis.call('SADD', SLOTS[tier], id_of(entry)) end
    end
end

-- Jobs ended: their slots are others', of whom one worker is told.
local function release_slots(...)
    local released = {}
    for _, entries in ipairs({ ... }) do
        for _, entry in ipairs(entries) do
            local tier = tier_of(entry)
            released[tier] = released[tier] or {}
            table.insert(released[tier], id_of(entry))
        end
    end
    for tier, ids in pairs(released) do
        if all('SREM', SLOTS[tier], ids) > 0 and redis.call('LLEN', READY[tier]) > 0 then wake(tier) end
    end
end
