-- Run a call, unless it was run before: its reply may have been lost, and so it comes again, on
-- another connection, and the first may even come after it. `sent` is the key of a connection of the producer, where
-- one call waits for its reply at a time: so to know the last one is enough. It is used for half a minute (from calls
-- 1 and 2 on, for a connection has two in turn), and its time is set by the first call: that costs more than the rest.
-- `run` returns a list for the reply (e.g. the ids that belong to other jobs), which costs a command unless it is
-- empty, or nil. Returns the same, or an error for the reply.
local SENT_MS = 90000

local function once(sent, number, run)
    local known
    if number == '1' or number == '2' then
        known = redis.pcall('SET', sent, number, 'PX', SENT_MS, 'GET')
    else
        known = redis.pcall('SET', sent, number, 'KEEPTTL', 'GET')
        if not known then redis.call('PEXPIRE', sent, SENT_MS) end -- a producer that slept for long
    end
    local refused = type(known) == 'table' and known
    if refused then
        -- A server that became full knows still what was done before it was.
        known = string.find(refused.err, 'OOM', 1, true) and redis.call('GET', sent)
    end
    if known and string.match(known, '^%d+') == number then
        if known == number then return nil end
        if not refused then redis.call('SET', sent, known, 'KEEPTTL') end
        return cjson.decode(string.sub(known, #number + 1))
    end
    if refused then return refused end
    local done, taken = pcall(run)
    if not done then
        redis.call('DEL', sent)
        error(taken, 0)
    end
    if taken and #taken > 0 then redis.call('SET', sent, number .. cjson.encode(taken), 'KEEPTTL') end
    return taken
end
