-- Run a call that accepts jobs, unless it was run before: its reply may have been lost, and so it comes again, on
-- another connection, and the first may even come after it. `sent` is the key of a connection of the producer, where
-- one call waits for its reply at a time: so to know the last one is enough.
-- `run` returns the ids that belong to other jobs. Returns them too, or an error for the reply.
local REMEMBER_MS = 60000 -- longer than a producer tries, and than a network holds a packet back

local function once(sent, number, run)
    local before = redis.pcall('SET', sent, number, 'PX', REMEMBER_MS, 'GET')
    local refused = type(before) == 'table' and before
    local known = before
    if refused then
        -- A server that became full knows still what was done before it was.
        known = string.find(refused.err, 'OOM', 1, true) and redis.call('GET', sent)
    end
    if known and string.match(known, '^%d+') == number then
        if #known == #number then return {} end
        if not refused then redis.call('SET', sent, known, 'PX', REMEMBER_MS) end
        return cjson.decode(string.sub(known, #number + 1))
    end
    if refused then return refused end
    local done, taken = pcall(run)
    if not done then
        redis.call('DEL', sent)
        error(taken, 0)
    end
    if #taken > 0 then redis.call('SET', sent, number .. cjson.encode(taken), 'PX', REMEMBER_MS) end
    return taken
end
