-- Needs keys, entries, waits, wake, clock, batches. Lines (queues/lines.py): so many jobs of a line run at once, the
-- others wait parked. LINES has of each line in use its limit, the places taken, when it opens (0: it is open) and to how
-- many places it is narrowed (0: it is not); and of each job the names of the lines in which it has a place, "!" behind
-- one that keeps its order. PARKED has "NAME NUMBER ENTRY"; a job keeps its number wherever it is parked.
-- A job takes the places in lines with an order one after the other, and waits for the next one with those that it has;
-- then those in all others at once, or none of them: so nobody waits in a circle, or with a place that others could use.
-- While anybody is parked in a line it has no room: whoever makes room lets the next one in, who goes to the front when
-- it has all its places, and is parked in the line that lacks room when it has not.
local lines, numbers, first_number = {}, 0, nil
local MOST_LET_IN, MOST_PARKED_AGAIN = 1000, 100
local OPENS = '~' -- stands before a line's name in DELAYED, by the time at which it is looked at

local function line_of(name)
    local line = lines[name]
    if not line then
        local text = redis.call('HGET', LINES, name) or '0 0 0 0'
        local limit, taken, opens, narrowed = string.match(text, '^(%d+) (%d+) (%d+) (%d+)')
        line = {
            name = name, limit = tonumber(limit), taken = tonumber(taken), opens = tonumber(opens),
            narrowed = tonumber(narrowed),
        }
        lines[name] = line
    end
    return line
end

local function write_lines()
    for name, line in pairs(lines) do
        if line.taken == 0 and line.opens == 0 and not line.more then
            redis.call('HDEL', LINES, name)
        else
            redis.call('HSET', LINES, name, string.format(
                '%d %d %.0f %d', line.limit, line.taken, line.opens, line.narrowed
            ))
        end
    end
    if numbers > 0 then redis.call('HINCRBY', STATS, 'parkings', numbers) end
    lines, numbers, first_number = {}, 0, nil
end

local function room_in(line)
    if line.opens > 0 then return 0 end
    local most = line.narrowed > 0 and math.min(line.narrowed, line.limit) or line.limit
    return math.max(0, most - line.taken)
end

local function look_at(line, at)
    redis.call('HINCRBY', STATS, 'closed', redis.call('ZADD', DELAYED, string.format('%.0f', at), OPENS .. line.name))
    tell_due()
end

-- The lines that a body names, behind which there is a line feed: its last element, for nothing else in a body ends so.
-- What is quoted in an argument has a backslash before its quotation mark.
local LONGEST_LINES = 400

local function lines_in(body)
    local found = string.match(string.sub(body, -LONGEST_LINES), ',%d+,%d+,%["([^%]]*)"%]%]\n$') or ''
    return string.gmatch(found, '([^=",]+)=(%d+)(!?)')
end

local function has(places, place)
    return string.find(' ' .. places .. ' ', ' ' .. place .. ' ', 1, true)
end

local function new_number()
    first_number = first_number or tonumber(redis.call('HGET', STATS, 'parkings') or 0)
    numbers = numbers + 1
    return string.format('%015.0f', first_number + numbers)
end

local function park_in(line, entry, number)
    redis.call('ZADD', PARKED, 0, line.name .. ' ' .. (number or new_number()) .. ' ' .. entry)
end

-- The line that lacks room for a job, nil when it got all its places. Returns those that it has too.
local function take_places(body, places)
    local wanted = {}
    for name, limit, mark in lines_in(body) do
        if not has(places, name .. mark) then
            local line = line_of(name)
            if line.limit == 0 then line.limit = tonumber(limit) end -- nobody was in it
            if room_in(line) == 0 then return line, places end
            if mark == '!' then
                line.taken = line.taken + 1
                places = places .. ' ' .. name .. mark
            else
                wanted[#wanted + 1] = line
            end
        end
    end
    for _, line in ipairs(wanted) do
        line.taken = line.taken + 1
        places = places .. ' ' .. line.name
    end
    return nil, places
end

local function write_places(id, before, places)
    if places ~= before then redis.call('HSET', LINES, id, places) end
end

-- One that is parked gets its places, or waits for those that it lacks. Returns its entry when it has all.
local function let_one_in(member)
    redis.call('ZREM', PARKED, member)
    local number, entry = string.match(member, '^%S+ (%d+) (.*)$')
    local id = id_of(entry)
    local body = redis.call('HGET', JOBS, id)
    if not body then return nil end
    local before = redis.call('HGET', LINES, id) or ''
    local full, places = take_places(body, before)
    write_places(id, before, places)
    if full then park_in(full, entry, number) end
    return not full and entry or nil
end

-- Those let in and the others that are next take turns: a line that is never empty keeps nobody out, and nobody that
-- was let in waits behind a long queue. A 0 before its time marks the entry of one that was.
local AMONG = 64

local function was_let_in(entry)
    return string.find(entry, '^[^|]*|r?t0') ~= nil
end

local function mixed(first, entries)
    local last = 0
    for i = 1, #first do
        if was_let_in(first[i]) then last = i end
    end
    local order, n = {}, 1
    for i = 1, #first do
        order[#order + 1] = first[i]
        if i > last and entries[n] then
            order[#order + 1] = entries[n]
            n = n + 1
        end
    end
    for rest = n, #entries do order[#order + 1] = entries[rest] end
    return order
end

local function go_to_front(entries)
    local of_tier = {}
    for _, entry in ipairs(entries) do
        local tier, time = tier_of(entry), string.format('%.0f', clock())
        of_tier[tier] = of_tier[tier] or {}
        table.insert(of_tier[tier], id_of(entry) .. (has_record(entry) and '|rt0' or '|t0') .. time)
    end
    for tier, some in pairs(of_tier) do
        local order = mixed(redis.call('LRANGE', READY[tier], 0, AMONG - 1), some)
        redis.call('LTRIM', READY[tier], AMONG, -1)
        for i = #order, 1, -1 do some[#order - i + 1] = order[i] end
        redis.call('LPUSH', READY[tier], unpack(some))
        wake(tier)
    end
end

-- Those parked longest get the places that are free.
local function let_in(line)
    local room = math.min(room_in(line), MOST_LET_IN)
    if room == 0 then return end
    local most, went = room + MOST_PARKED_AGAIN, {}
    local parked = redis.call(
        'ZRANGEBYLEX', PARKED, '[' .. line.name .. ' ', '(' .. line.name .. '!', 'LIMIT', 0, most
    )
    for _, member in ipairs(parked) do
        if room_in(line) == 0 then break end
        went[#went + 1] = let_one_in(member)
    end
    go_to_front(went)
    line.more = #parked == most and room_in(line) > 0
    if line.more then look_at(line, clock()) end
end

-- They ended, or are delayed: their places are others'. `delayed` has the entries of those that keep some of them.
local function give_up_places(entries, delayed)
    if #entries == 0 then return end
    local ids = {}
    for i, entry in ipairs(entries) do ids[i] = id_of(entry) end
    local left = {}
    each_piece(ids, function(first, last)
        for i, places in ipairs(redis.call('HMGET', LINES, unpack(ids, first, last))) do
            local id, entry, kept = ids[first + i - 1], entries[first + i - 1], ''
            for name, mark in string.gmatch(places or '', '([^ !]+)(!?)') do
                if mark == '!' and delayed and delayed[entry] then
                    kept = kept .. ' ' .. name .. mark
                else
                    local line = line_of(name)
                    line.taken = math.max(0, line.taken - 1)
                    left[#left + 1] = line
                end
            end
            if places and kept ~= '' then
                redis.call('HSET', LINES, id, kept)
            elseif places then
                redis.call('HDEL', LINES, id)
            end
        end
    end)
    for i = #left, 1, -1 do let_in(left[i]) end -- the most general first: more wait there, and longer
    write_lines()
end

-- A turn settled these. `stay` says of those that live on where they are: who is ready again keeps its places.
local function settle_places(done, others, stay)
    local leave, delayed = {}, {}
    for i, entry in ipairs(done) do leave[i] = entry end
    for _, entry in ipairs(others) do
        if stay[entry] ~= 'ready' then leave[#leave + 1] = entry end
        delayed[entry] = stay[entry] == 'delayed'
    end
    give_up_places(leave, delayed)
end
