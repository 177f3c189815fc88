-- Needs keys. A token in a wake key ends the wait of one idle worker. A tier's token says that something may be
-- ready there, "d" in NEWS that the next delayed job may be due earlier than known, "w" in WATCH that a worker holds
-- leases: two that hold none shall watch it; who took "w" puts "v" there for the second.
local function wake(tier)
    redis.call('ZADD', WAKE[tier], 0, tier)
end

local function tell_due()
    redis.call('ZADD', NEWS, 0, 'd')
end

local function wake_all()
    for tier in pairs(WAKE) do wake(tier) end
    tell_due()
end
