-- Lua's stack takes some thousand values: long lists go through a command in pieces.
local PIECE = 1000

local function each_piece(list, run)
    for first = 1, #list, PIECE do run(first, math.min(first + PIECE - 1, #list)) end
end

local function all(command, key, list)
    local changed = 0
    for first = 1, #list, PIECE do
        changed = changed + redis.call(command, key, unpack(list, first, math.min(first + PIECE - 1, #list)))
    end
    return changed
end
