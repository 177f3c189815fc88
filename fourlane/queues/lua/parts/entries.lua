-- An entry is what lists, sets and sorted sets hold for a job: its id, and for some jobs "|" and marks:
-- "r" when it has a record or a crash to read, "t" and milliseconds when it became ready later than its id says.
-- An id begins with its tier's digit. Our own ids go on with the time, 7 digits to the base 64.
local function id_of(entry)
    local bar = string.find(entry, '|', 1, true)
    return bar and string.sub(entry, 1, bar - 1) or entry
end

local function tier_of(entry)
    return string.sub(entry, 1, 1)
end

local function has_record(entry)
    local bar = string.find(entry, '|', 1, true)
    return bar and string.sub(entry, bar + 1, bar + 1) == 'r'
end

local function with_record(entry)
    return id_of(entry) .. '|r'
end

-- The same entry, and marked as one that has a record.
local function marked_entry(entry)
    if has_record(entry) then return entry end
    local bar = string.find(entry, '|', 1, true)
    return bar and string.sub(entry, 1, bar) .. 'r' .. string.sub(entry, bar + 1) or entry .. '|r'
end

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
