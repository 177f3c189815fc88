-- Needs keys, clock. Of the other workers that may hold leases: the names of those whose time ran out, and milliseconds
-- until the next one's does, -1 when there is none.
local function find_silent(me)
    local silent, next_in = {}, -1
    local soonest = redis.call('ZRANGE', WORKERS, 0, 9, 'WITHSCORES')
    for i = 1, #soonest, 2 do
        if soonest[i] ~= me then
            local left = tonumber(soonest[i + 1]) - clock()
            if left <= 0 then
                silent[#silent + 1] = soonest[i]
            elseif next_in < 0 then
                next_in = left
            end
        end
    end
    return silent, next_in
end
