-- A call whose reply was lost comes again, on another connection, and the first may even come after it. `sent` is what
-- parts/once.lua says, `number` the call's there, behind it "+" when it is known to be a repeat. What it replies is
-- remembered at its first write: one command, where once() takes two.
local REMEMBERED_MS = 90000

-- What a repeat's first coming replied, if that wrote something; nil for any other call, which pays nothing.
local function replied_before(sent, number)
    local own = string.match(number, '^(%d+)%+$')
    local known = own and redis.call('GET', sent)
    return known and string.match(known, '^%d+') == own and cjson.decode(string.sub(known, #own + 1)) or nil
end

-- To be called before anything is written. Returns what it replied when it came before: then nothing is to be written.
local function first_reply(sent, number, reply)
    local own = string.match(number, '^%d+')
    local known = redis.call('SET', sent, own .. cjson.encode(reply), 'PX', REMEMBERED_MS, 'GET')
    if not known or string.match(known, '^%d+') ~= own then return nil end
    redis.call('SET', sent, known, 'PX', REMEMBERED_MS)
    return cjson.decode(string.sub(known, #own + 1))
end
