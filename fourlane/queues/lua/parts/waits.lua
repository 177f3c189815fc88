-- Needs entries. Since when a job waits: its entry says it, or the time in an id of ours.
local function ready_since(entry, now)
    return id_of(entry) .. (has_record(entry) and '|rt' or '|t') .. string.format('%.0f', now)
end

local function digit(byte) -- - 0-9 A-Z _ a-z, in the order of their codes
    if byte == 45 then return 0 end
    if byte <= 57 then return byte - 47 end
    if byte <= 90 then return byte - 54 end
    if byte == 95 then return 37 end
    return byte - 59
end

local function waiting_since(entry)
    local _, _, marked = string.find(entry, '|r?t(%d+)$')
    if marked then return tonumber(marked) end
    if #id_of(entry) ~= 14 then return nil end
    local time = 0
    for position = 2, 8 do time = time * 64 + digit(string.byte(entry, position)) end
    return time
end
