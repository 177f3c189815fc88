-- Needs keys, entries, batches, waits, wake, clock, pace, refusals. Delayed jobs whose time has come become ready, at
-- most so many in a call, and closed lines open.
local DUE_AT_ONCE = 200

local function open_lines(names)
    --@include lines
    for _, name in ipairs(names) do
        local line = line_of(name)
        line.opens = 0
        let_in(line)
    end
    redis.call('HINCRBY', STATS, 'closed', -#names)
    write_lines()
end

-- Those whose time has come, by tier; and those of no tier. The ones that their replay's pace holds back wait again.
local function take_due()
    local due = redis.call('ZRANGEBYSCORE', DELAYED, '-inf', clock(), 'WITHSCORES', 'LIMIT', 0, DUE_AT_ONCE)
    local ready, unplaced, paces, opened = {}, {}, {}, {}
    for i = 1, #due, 2 do
        local tier, at = tier_of(due[i]), tonumber(due[i + 1])
        local later = wait_again(paces, at, clock())
        if later then
            redis.call('ZADD', DELAYED, later, due[i])
        elseif READY[tier] then
            ready[tier] = ready[tier] or { entries = {}, members = {} }
            table.insert(ready[tier].entries, ready_since(due[i], at))
            table.insert(ready[tier].members, due[i])
        else
            unplaced[#unplaced + 1] = due[i]
            if tier == '~' then opened[#opened + 1] = string.sub(due[i], 2) end
        end
    end
    write_paces(paces)
    return ready, unplaced, opened
end

-- Returns the refusal of a tier's list: each moves wholly, and one that Redis refuses keeps back no other.
local function move_due()
    local ready, unplaced, opened = take_due()
    local refused
    for tier, moved in pairs(ready) do
        wake(tier)
        local pushed = redis.pcall('RPUSH', READY[tier], unpack(moved.entries))
        if type(pushed) == 'table' then
            refused = refusal(pushed, READY[tier], 'list')
        else
            redis.call('ZREM', DELAYED, unpack(moved.members))
        end
    end
    if #unplaced > 0 then redis.call('ZREM', DELAYED, unpack(unplaced)) end
    if #opened > 0 then open_lines(opened) end
    return refused
end
