-- Needs keys. True when no worker came since the caller read their names: its leases would not be in KEYS.
-- `first` is the place in ARGV of the first name.
local function knows_all_workers(first)
    local known = {}
    for i = first, #ARGV do known[ARGV[i]] = true end
    for _, name in ipairs(redis.call('ZRANGE', WORKERS, 0, -1)) do
        if not known[name] then return false end
    end
    return true
end
