-- Needs keys, entries, wake. The callbacks of an end that no run had are told by a job of its own (queues/ended.py). It
-- is made in the same step as the end: whoever found that may die, or lose our reply, right after it.
local TELLING = '.ended:'

local function is_telling(id) return string.sub(id, 2, 1 + #TELLING) == TELLING end

local function send_telling(id, body, now)
    local tier, time = tier_of(id), string.format('%.0f', now)
    local telling = tier .. TELLING .. redis.sha1hex(id .. ' ' .. time)
    wake(tier)
    redis.call('RPUSH', READY[tier], telling .. '|t' .. time)
    redis.call('HSET', JOBS, telling, body) -- which the caller has read: here nothing is refused any more
end
