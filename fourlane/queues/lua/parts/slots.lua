-- Needs keys, entries, batches, wake.
-- Jobs ended: their slots are others', of whom one worker is told.
local function release_slots(...)
    local released = {}
    for _, entries in ipairs({ ... }) do
        for _, entry in ipairs(entries) do
            local tier = tier_of(entry)
            released[tier] = released[tier] or {}
            table.insert(released[tier], id_of(entry))
        end
    end
    for tier, ids in pairs(released) do
        if all('SREM', SLOTS[tier], ids) > 0 and redis.call('LLEN', READY[tier]) > 0 then wake(tier) end
    end
end
