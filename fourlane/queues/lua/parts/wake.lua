-- Needs keys. A token in a wake key ends the wait of one idle worker. A tier's token says that something may be
-- ready there; NEWS takes "d" (the next delayed job may be due earlier than known) and "w" (a worker began to
-- hold leases: watch it).
local function wake(tier)
    redis.call('ZADD', WAKE[tier], 0, tier)
end

local function tell(news)
    redis.call('ZADD', NEWS, 0, news)
end

local function wake_all()
    for tier in pairs(WAKE) do wake(tier) end
    tell('d')
end
