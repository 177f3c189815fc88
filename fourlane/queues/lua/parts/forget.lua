-- Needs keys, entries, batches. Forget jobs for good: their bodies and all that is kept apart for them.
local function forget(entries)
    local ids, marked = {}, {}
    for i = 1, #entries do
        local id = id_of(entries[i])
        ids[i] = id
        if id ~= entries[i] then marked[#marked + 1] = id end
    end
    if #marked > 0 then
        all('HDEL', CRASHES, marked)
        for i = 1, #marked do marked[#marked + 1] = marked[i] .. '|s' end -- their steps
        all('HDEL', RECORDS, marked)
    end
    all('HDEL', JOBS, ids)
    return ids
end
