-- Jobs are accepted wholly or not at all: a body that lies in no list would pass for accepted when the call is repeated.
-- What is written before the last write is noted here, as the command that takes it back.
local undo = {}

local function note_undo(...) undo[#undo + 1] = { ... } end

-- Of a list of pairs: `place` 1 or 2 says which of each is what the command takes.
local function note_undo_pairs(command, key, pairs, place)
    local taken = {}
    for i = place, #pairs, 2 do taken[#taken + 1] = pairs[i] end
    note_undo(command, key, unpack(taken))
end

-- Behind what lies in a list already.
local function push(list, entries)
    redis.call('RPUSH', list, unpack(entries))
    note_undo('LTRIM', list, 0, -#entries - 1)
end

-- Run it; when Redis refuses a write, take back those before, and raise.
local function wholly(run, ...)
    local written, result = pcall(run, ...)
    if written then return result end
    for i = #undo, 1, -1 do redis.pcall(unpack(undo[i])) end
    error(result, 0)
end
