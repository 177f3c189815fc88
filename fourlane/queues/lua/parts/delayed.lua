-- Needs wholly. Put jobs among those that may not run yet: `due` holds times and ids by turns. Who waits is told when
-- one is due earlier than it knows.
local DUE_AT_ONCE = 2000

local function put_delayed(delayed, news, due)
    if #due == 0 then return end
    local earliest = math.huge
    for i = 1, #due, 2 do earliest = math.min(earliest, tonumber(due[i])) end
    local first = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
    for i = 1, #due, DUE_AT_ONCE do
        redis.call('ZADD', delayed, unpack(due, i, math.min(i + DUE_AT_ONCE - 1, #due)))
    end
    note_undo_pairs('ZREM', delayed, due, 2)
    if not first[2] or earliest < tonumber(first[2]) then redis.call('ZADD', news, 0, 'd') end
end
