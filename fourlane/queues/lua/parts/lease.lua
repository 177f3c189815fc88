-- Needs keys, entries, batches, forget, refusals, touch, limits. Lease what fits.
local popped, orphans = {}, 0

-- Take up to `want` from the heads of the tiers' lists, as far as limits allow. Returns the tiers that may have more.
local function pop(want, tiers, first_share, limits)
    local more = {}
    popped = {}
    local function take(tier, count)
        count = math.min(count, want - #popped)
        if count == 0 then
            more[tier] = true
            return
        end
        local permit = limits and limits.allowed(tier, count) or count
        touched, its_type = READY[tier], 'list'
        local got = permit > 0 and redis.call('LPOP', READY[tier], permit) or {}
        for _, entry in ipairs(got) do
            if tier_of(entry) == tier then popped[#popped + 1] = entry else orphans = orphans + 1 end
        end
        if limits and #got > 0 then limits.spend(tier, got) end
        more[tier] = permit == count and #got == count
    end
    for tier, count in string.gmatch(first_share, '(%d):(%d+)') do take(tier, tonumber(count)) end
    for tier in string.gmatch(tiers, '%d') do take(tier, want) end
    local rest = ''
    for tier, left in pairs(more) do
        if left then rest = rest .. tier end
    end
    return rest
end

local function put_back(limited)
    for i = #popped, 1, -1 do
        local tier = tier_of(popped[i])
        redis.call('LPUSH', READY[tier], popped[i])
        if limited then redis.pcall('SREM', SLOTS[tier], id_of(popped[i])) end
    end
end

-- The bodies of what was popped. The control lies beside them, so that a service that has none pays nothing to know it.
local function read_bodies()
    local ids, bodies, found_control = {}, {}, nil
    for i = 1, #popped do ids[i] = id_of(popped[i]) end
    touched, its_type = JOBS, 'hash'
    each_piece(ids, function(first, last)
        local got = redis.call('HMGET', JOBS, CONTROL, unpack(ids, first, last))
        found_control = got[1]
        for i = 2, #got do bodies[first + i - 2] = got[i] end
    end)
    return bodies, found_control
end

-- Returns the entries and bodies that are leased. Those that were cancelled while they waited have an empty body: they
-- are void, and not leased.
local function hold(found)
    local entries, bodies, void = {}, {}, {}
    for i, entry in ipairs(popped) do
        if found[i] and found[i] ~= '' then
            entries[#entries + 1] = entry
            bodies[#bodies + 1] = found[i]
        elseif found[i] then
            void[#void + 1] = entry
        else
            orphans = orphans + 1
        end
    end
    touched, its_type = LEASED, 'set'
    if #entries > 0 then all('SADD', LEASED, entries) end
    return entries, bodies, void
end

local function count_unleased(void)
    for _, entry in ipairs(void) do
        forget({ with_record(entry) })
        redis.call('HINCRBY', STATS, 'void:' .. tier_of(entry), -1)
    end
    if orphans > 0 then redis.call('HINCRBY', STATS, 'orphans', orphans) end
end

-- For each that has one, its record and its crashes.
local function read_records(entries)
    local records = {}
    for _, entry in ipairs(entries) do
        if has_record(entry) then
            records[#records + 1] = redis.pcall('HGET', RECORDS, id_of(entry)) or ''
            records[#records + 1] = redis.pcall('HGET', CRASHES, id_of(entry)) or ''
        end
    end
    return records
end

-- Returns { jobs = { entries, bodies, records }, more = the tiers that may have more, control, room_in }: the service's
-- control lies beside the bodies. Or { refused }: what to say of a key of another type.
local function lease(want, tiers, first_share, control)
    local limits = control and read_limits(control)
    local more
    local done, entries, bodies, void = pcall(function()
        more = pop(want, tiers, first_share, limits)
        local found, found_control = read_bodies()
        if found_control and not control then
            put_back(false)
            control, limits = found_control, read_limits(found_control)
            more = pop(want, tiers, first_share, limits)
            found = read_bodies()
        end
        return hold(found)
    end)
    if not done then
        put_back(control)
        return { refused = refusal(entries, touched, its_type) }
    end
    count_unleased(void)
    return {
        jobs = { entries, bodies, read_records(entries) }, more = more,
        control = control, room_in = limits and limits.room_in or nil,
    }
end
