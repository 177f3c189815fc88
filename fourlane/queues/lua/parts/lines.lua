-- Needs keys, entries, waits, wake, clock, batches. Lines (queues/lines.py): so many jobs of a line run at once, the
-- others wait parked. LINES has of each line in use its limit, the places taken, when it opens (0: it is open), to how
-- many places it is narrowed (0: it is not) and the last number given; and of each job the names of the lines in which
-- it has a place, "!" behind one that keeps its place while it is delayed. PARKED has "NAME NUMBER ENTRY".
-- While anybody is parked in a line it has no room: whoever makes room lets the next one in, who thereby has its place
-- and goes to the front. Nothing else lets anybody pass who waits.
local lines = {}

local function line_of(name)
    local line = lines[name]
    if not line then
        local text = redis.call('HGET', LINES, name) or '0 0 0 0 0'
        local limit, taken, opens, narrowed, last = string.match(text, '^(%d+) (%d+) (%d+) (%d+) (%d+)$')
        line = {
            name = name, limit = tonumber(limit), taken = tonumber(taken), opens = tonumber(opens),
            narrowed = tonumber(narrowed), last = tonumber(last),
        }
        lines[name] = line
    end
    return line
end

local function write_lines()
    for name, line in pairs(lines) do
        if line.taken == 0 and line.opens == 0 then
            redis.call('HDEL', LINES, name)
        else
            redis.call('HSET', LINES, name, string.format(
                '%d %d %.0f %d %.0f', line.limit, line.taken, line.opens, line.narrowed, line.last
            ))
        end
    end
    lines = {}
end

local function room_in(line)
    if line.opens > 0 then return 0 end
    local most = line.narrowed > 0 and math.min(line.narrowed, line.limit) or line.limit
    return math.max(0, most - line.taken)
end

local MOST_LET_IN = 1000

-- Those parked longest get the places that are free.
local function let_in(line)
    local room = math.min(room_in(line), MOST_LET_IN)
    if room == 0 then return end
    local behind = line.name .. ' '
    local parked = redis.call('ZRANGEBYLEX', PARKED, '[' .. behind, '(' .. line.name .. '!', 'LIMIT', 0, room)
    if #parked == 0 then return end
    redis.call('ZREM', PARKED, unpack(parked))
    for i = #parked, 1, -1 do -- the last first: each goes to the front
        local mark, entry = string.match(parked[i], '^%S+ %d+(!?) (.*)$')
        local id = id_of(entry)
        local places = redis.call('HGET', LINES, id)
        redis.call('HSET', LINES, id, (places and places .. ' ' or '') .. line.name .. mark)
        redis.call('LPUSH', READY[tier_of(id)], ready_since(entry, clock()))
        wake(tier_of(id))
    end
    line.taken = line.taken + #parked
end

-- They ended, or are delayed: their places are others'. `delayed` has the entries of those that keep some of them.
local function give_up_places(entries, delayed)
    if #entries == 0 then return end
    local ids = {}
    for i, entry in ipairs(entries) do ids[i] = id_of(entry) end
    local left = {}
    each_piece(ids, function(first, last)
        for i, places in ipairs(redis.call('HMGET', LINES, unpack(ids, first, last))) do
            local id, entry, kept = ids[first + i - 1], entries[first + i - 1], {}
            for name, mark in string.gmatch(places or '', '([^ !]+)(!?)') do
                if mark == '!' and delayed and delayed[entry] then
                    kept[#kept + 1] = name .. mark
                else
                    local line = line_of(name)
                    line.taken = math.max(0, line.taken - 1)
                    left[#left + 1] = line
                end
            end
            if places and #kept > 0 then
                redis.call('HSET', LINES, id, table.concat(kept, ' '))
            elseif places then
                redis.call('HDEL', LINES, id)
            end
        end
    end)
    for _, line in ipairs(left) do let_in(line) end
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
