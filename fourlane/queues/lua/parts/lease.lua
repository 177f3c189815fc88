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

-- What was popped, by what is to become of it: those that were cancelled while they waited have an empty body, are void
-- and not leased.
local function sort(found, void)
    local entries, bodies, any_lines, byte = {}, {}, false, string.byte
    for i, entry in ipairs(popped) do
        local body = found[i]
        if body and body ~= '' then
            entries[#entries + 1] = entry
            bodies[#bodies + 1] = body
            if byte(body, -1) == NAMES_LINES then any_lines = true end
        elseif body then
            void[#void + 1] = entry
        else
            orphans = orphans + 1
        end
    end
    return entries, bodies, any_lines
end

local function count_unleased(void)
    if #void > 0 then
        --@include waits
        --@include lines
        give_up_places(void)
    end
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

-- Of these only those that have room in their lines; the others are parked. Returns the number parked.
local function keep_those_with_room(entries, bodies, limits)
    --@include waits
    --@include lines
    --@include admit
    touched, its_type = LINES, 'hash'
    local parked, kept, number = park(entries, bodies), 0, #entries
    for i = 1, number do
        local entry, body = entries[i], bodies[i]
        entries[i], bodies[i] = nil, nil
        if parked[i] then
            if limits then limits.spare(entry) end
        else
            kept = kept + 1
            entries[kept], bodies[kept] = entry, body
        end
    end
    return number - kept
end

-- So many are looked at in a call, however few of them have room in their lines.
local MOST_LOOKED_AT = 300

-- Lease into `leased`. Returns the control where it is new: then nothing was leased.
local function fill(leased, want, tiers, first_share, control, limits)
    local entries, bodies, looked_at = {}, {}, 0
    repeat
        leased.more = pop(want - #entries, tiers, first_share, limits)
        local found, found_control = read_bodies()
        if found_control and not control then
            put_back(false)
            popped = {}
            return found_control
        end
        local some, their_bodies, any_lines = sort(found, leased.void)
        local parked = 0
        if any_lines then
            leased.lines = 1
            parked = keep_those_with_room(some, their_bodies, limits)
        end
        touched, its_type = LEASED, 'set'
        if #some > 0 then all('SADD', LEASED, some) end
        if #entries == 0 then
            entries, bodies = some, their_bodies
        else
            for i = 1, #some do
                entries[#entries + 1], bodies[#bodies + 1] = some[i], their_bodies[i]
            end
        end
        looked_at, first_share = looked_at + #popped, ''
    until parked == 0 or #entries >= want or looked_at >= MOST_LOOKED_AT
    leased.jobs = { entries, bodies }
    return nil
end

-- Returns { jobs = { entries, bodies, records }, more = the tiers that may have more, control, room_in, lines = 1 when
-- any has some }: the service's control lies beside the bodies. Or { refused }: what to say of a key of another type.
local function lease(want, tiers, first_share, control)
    local limits = control and read_limits(control)
    local leased = { void = {} }
    local done, fault = pcall(function()
        local new_control = fill(leased, want, tiers, first_share, control, limits)
        if new_control then
            control, limits = new_control, read_limits(new_control)
            fill(leased, want, tiers, first_share, control, limits)
        end
    end)
    if not done then
        put_back(control)
        return { refused = refusal(fault, touched, its_type) }
    end
    count_unleased(leased.void)
    leased.jobs[3] = read_records(leased.jobs[1])
    leased.control, leased.room_in = control, limits and limits.room_in or nil
    return leased
end
