-- Needs keys, entries, clock. For each tier how long its oldest job has waited in milliseconds, -1 for none.
local function read_ages()
    local ages = {}
    for tier = 0, 3 do
        local head = redis.call('LINDEX', READY[tostring(tier)], 0)
        local since = head and waiting_since(head)
        ages[tier + 1] = head and math.max(0, clock() - (since or clock())) or -1
    end
    return ages
end
