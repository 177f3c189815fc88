-- Needs lines. Which of the jobs that were taken from the ready ones may begin.

-- The job that is leased says the limits of its lines.
local function learn_limits(body)
    for name, limit in lines_in(body) do
        local line = line_of(name)
        if line.limit ~= tonumber(limit) then
            local was_used = line.limit > 0
            line.limit = tonumber(limit)
            if was_used then let_in(line) end
        end
    end
end

-- Returns the positions of those among `some` that lack a place: they are parked.
local function park(some, bodies)
    local ids, parked = {}, {}
    for i, entry in ipairs(some) do ids[i] = id_of(entry) end
    -- What has another type says so before anything is written.
    redis.call('ZCARD', PARKED)
    each_piece(ids, function(first, last)
        for i, before in ipairs(redis.call('HMGET', LINES, unpack(ids, first, last))) do
            local n = first + i - 1
            learn_limits(bodies[n])
            local full, places = take_places(bodies[n], before or '')
            write_places(ids[n], before or '', places)
            if full then
                park_in(full, some[n])
                parked[n] = true
            end
        end
    end)
    write_lines()
    return parked
end
