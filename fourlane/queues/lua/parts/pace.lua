-- Needs keys. The pace of a replay at a rate. Its jobs are delayed, each to a time of its own, one step apart; the
-- fraction of a millisecond of that time is the replay's number, and BUCKETS has for it the step, the time of the last
-- job, and when one was let through. Late ones wait again behind the last: a stall ends in no burst. So small a lateness
-- as a worker's look may have is none.
local PACES, LATE_MS, FORGOTTEN_MS = 400, 100, 7 * 86400000

local function number_of_pace(due)
    return math.floor(due % 1 * 1000 + 0.5)
end

local function paced(due, number)
    return string.format('%.3f', math.floor(due) + number / 1000)
end

local function parse_pace(text)
    local step, last, let = string.match(text or '', '^(%S+) (%S+) (%S+)$')
    return step and { step = tonumber(step), last = tonumber(last), let = tonumber(let) } or nil
end

local function read_pace(number)
    return parse_pace(redis.call('HGET', BUCKETS, 'pace' .. number))
end

local function write_pace(number, pace)
    redis.call('HSET', BUCKETS, 'pace' .. number, string.format('%.3f %.0f %.0f', pace.step, pace.last, pace.let))
end

-- The number of a new replay: a free one, or else that of the replay which ended first.
local function new_pace(now)
    local names = {}
    for number = 1, PACES do names[number] = 'pace' .. number end
    local free, first
    for number, text in ipairs(redis.call('HMGET', BUCKETS, unpack(names))) do
        local pace = parse_pace(text)
        if text and (not pace or pace.last < now - FORGOTTEN_MS) then
            redis.call('HDEL', BUCKETS, names[number])
            pace = nil
        end
        if not pace then
            free = free or number
        elseif not first or pace.last < first.last then
            first = { number = number, last = pace.last }
        end
    end
    return free or first.number
end

-- Until when a job that is due must wait again; nil when it may go. `paces` is for one look: write_paces ends it.
local function wait_again(paces, due, now)
    if due % 1 == 0 then return nil end
    local number = number_of_pace(due)
    paces[number] = paces[number] or read_pace(number)
    local pace = paces[number]
    if not pace then return nil end
    if now - due <= LATE_MS or now - pace.let >= pace.step then
        pace.let = now
        return nil
    end
    pace.last = math.max(pace.last, now) + pace.step
    return paced(pace.last, number)
end

local function write_paces(paces)
    for number, pace in pairs(paces) do write_pace(number, pace) end
end
