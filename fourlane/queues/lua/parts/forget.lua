-- Needs keys, entries, batches. Forget jobs for good: their bodies and all that is kept apart for them.
local function forget(entries)
    local ids, marked = {}, {}
    for i = 1, #entries do
        local id = id_of(entries[i])
        ids[i] = id
        if id ~= entries[i] then marked[#marked + 1] = id end
    end
    if #marked > 0 then
        local lost, kept = {}, {} -- crashes, silences and trials; records and steps
        for i = 1, #marked do
            local n, id = #lost, marked[i]
            lost[n + 1], lost[n + 2], lost[n + 3] = id, id .. '|q', id .. '|t'
            kept[2 * i - 1], kept[2 * i] = marked[i], marked[i] .. '|s'
        end
        all('HDEL', CRASHES, lost)
        all('HDEL', RECORDS, kept)
    end
    all('HDEL', JOBS, ids)
    return ids
end
