-- Needs entries, wholly. Accept jobs that may run now: an id that another job has is told, and the rest goes on.
-- Returns the ids taken by others, and whether any job was accepted.
local function accept_one_by_one(jobs, list, ids, flat, first)
    local present = redis.call('HMGET', jobs, unpack(ids))
    local fields, entries, taken, met = {}, {}, {}, {}
    for i = 1, #ids do
        local body = flat[first + i * 2 - 1]
        local other = present[i] or met[ids[i]]
        if not other then
            met[ids[i]] = body
            entries[#entries + 1] = flat[first + i * 2 - 2]
            fields[#fields + 1] = ids[i]
            fields[#fields + 1] = body
        elseif other ~= body then
            taken[#taken + 1] = ids[i]
        end
    end
    if #entries > 0 then
        redis.call('HSET', jobs, unpack(fields))
        note_undo_pairs('HDEL', jobs, fields, 1)
        push(list, entries)
    end
    return taken, #entries > 0
end

-- Put jobs at the end of one tier's list, each unless its id belongs to another job already.
-- `flat` holds their entries and bodies from `first` on. Returns the ids taken by others.
local function accept(jobs, list, wake, tier, flat, first)
    local ids, count, plain = {}, 0, true
    for i = first, #flat, 2 do
        count = count + 1
        local id = id_of(flat[i])
        ids[count] = id
        plain = plain and id == flat[i]
    end
    local taken, some = {}, true
    -- Nearly always all are new, and then the arguments can go on as they came.
    local new = plain
    if plain then
        local present = redis.call('HMGET', jobs, unpack(ids))
        for i = 1, count do new = new and not present[i] end
    end
    if new and redis.call('HSET', jobs, unpack(flat, first)) == count then
        note_undo('HDEL', jobs, unpack(ids))
        push(list, ids)
    else
        if new then redis.call('HDEL', jobs, unpack(ids)) end -- an id came twice
        taken, some = accept_one_by_one(jobs, list, ids, flat, first)
    end
    if some then redis.call('ZADD', wake, 0, tier) end
    return taken
end
