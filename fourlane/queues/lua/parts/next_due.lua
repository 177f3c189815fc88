-- Needs keys, clock. Milliseconds until the next one is due, -1 when there is none.
local function next_due()
    local first = redis.call('ZRANGE', DELAYED, 0, 0, 'WITHSCORES')
    return first[2] and math.max(0, math.ceil(tonumber(first[2]) - clock())) or -1
end
