-- An entry is what lists, sets and sorted sets hold for a job: its id, and for some jobs "|" and marks:
-- "r" when it has a record or a crash to read, "t" and milliseconds when it became ready later than its id says (behind a
-- 0 when it was let in from a line).
-- An id begins with its tier's digit. Our own ids go on with the time, 7 digits to the base 64.
local NAMES_LINES = 10 -- a line feed, behind the body of a job that names lines

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
