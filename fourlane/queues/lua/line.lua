-- Close a line for a time, narrow it to fewer places than it has, or widen it again.
-- KEYS  the service's
-- ARGV  1 the line's name, 2 milliseconds that it is closed, or longer if it is already, 0: it opens, "": as it is,
--       3 to how many places it is narrowed, 0: to as many as it has, "": as it is
-- Reply 1
--@include keys
--@include entries
--@include batches
--@include time
--@include clock
--@include waits
--@include wake
--@include lines

local line = line_of(ARGV[1])
if ARGV[2] ~= '' then
    local opens = clock() + tonumber(ARGV[2])
    if ARGV[2] ~= '0' then opens = math.max(line.opens, opens) end
    line.opens = opens
    look_at(line, opens)
end
if ARGV[3] ~= '' then line.narrowed = tonumber(ARGV[3]) end
let_in(line)
write_lines()
return 1
