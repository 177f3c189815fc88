-- Needs entries. Put jobs at the end of one tier's list, each unless its id belongs to another job already.
-- `flat` holds their entries and bodies from `first` on. Returns how many were given, and the ids taken by others.
local function accept(jobs, list, wake, tier, flat, first)
    local ids = {}
    for i = first, #flat, 2 do ids[#ids + 1] = id_of(flat[i]) end
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
        redis.call('RPUSH', list, unpack(entries))
        redis.call('ZADD', wake, 0, tier)
    end
    return #ids, taken
end
