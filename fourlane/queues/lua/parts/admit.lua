-- Needs lines. Which of the jobs that were taken from the ready ones may begin.

-- The lines that a body names, behind which there is a line feed: its last element, for nothing else in a body ends so.
-- What is quoted in an argument has a backslash before its quotation mark.
local LONGEST_LINES = 400

local function lines_in(body)
    return string.match(string.sub(body, -LONGEST_LINES), ',%d+,%d+,%["([^%]]*)"%]%]\n$') or ''
end

-- Its place in each of its lines, in their order; where there is none it is parked, with those that it has. Returns
-- whether it has all.
local function takes_places(entry, body, places)
    local before = places
    local has_all = true
    for name, limit, mark in string.gmatch(lines_in(body), '([^=",]+)=(%d+)(!?)') do
        local place = name .. mark
        if not string.find(' ' .. places .. ' ', ' ' .. place .. ' ', 1, true) then
            local line = line_of(name)
            if line.limit ~= tonumber(limit) then
                local is_new = line.limit == 0
                line.limit = tonumber(limit)
                if not is_new then let_in(line) end
            end
            if room_in(line) == 0 then
                line.last = line.last + 1
                redis.call('ZADD', PARKED, 0, string.format('%s %015.0f%s %s', name, line.last, mark, entry))
                has_all = false
                break
            end
            line.taken = line.taken + 1
            places = places == '' and place or places .. ' ' .. place
        end
    end
    if places ~= before then redis.call('HSET', LINES, id_of(entry), places) end
    return has_all
end

-- Returns the positions of those among `some` that are parked.
local function park(some, bodies)
    local ids, parked = {}, {}
    for i, entry in ipairs(some) do ids[i] = id_of(entry) end
    -- What has another type says so before anything is written.
    redis.call('ZCARD', PARKED)
    each_piece(ids, function(first, last)
        for i, places in ipairs(redis.call('HMGET', LINES, unpack(ids, first, last))) do
            local n = first + i - 1
            if not takes_places(some[n], bodies[n], places or '') then parked[n] = true end
        end
    end)
    write_lines()
    return parked
end
