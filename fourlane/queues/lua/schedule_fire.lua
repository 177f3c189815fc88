-- Decide nominal times: for each the job, the schedule's new state and the line in its history, all or nothing.
-- A time is decided only while the schedule's state is still what the caller had read, so no two can decide it.
-- KEYS  the service's, states, fires, lateness, then the history of each schedule concerned
-- ARGV  for each nominal time 13:
--         1 schedule, 2 the place of its history among the last keys, 3 its state as read
--         4 not before this time
--         5 the entry of the job and 6 its body, "" for none
--         7 the job before it, if it must have ended; "" if not
--         8 the new state, 9 when it is due again (0: never), 10 the line of the history, "" for none
--         the same three for when the job before still lives; 11 "" to do nothing then
-- Reply the time, then for each a word: "fired", "alive" (the job before lives), "early", "moved" (the state is
--       another), "taken" (the id belongs to another job; nothing was done)
--@include keys
--@include entries
--@include time
--@include wholly
--@include accept

local STATES, FIRES, LATENESS = KEYS[FIRST_OWN_KEY], KEYS[FIRST_OWN_KEY + 1], KEYS[FIRST_OWN_KEY + 2]
local FIRST_HISTORY, STEP = FIRST_OWN_KEY + 2, 13
local HISTORY_LINES, HISTORY_SLACK = 200, 50 -- a run that has ended takes two lines

local now = now_ms()
local count = #ARGV / STEP
local names, ids, formers = {}, {}, {}
for i = 0, count - 1 do
    local at = i * STEP
    names[i + 1] = ARGV[at + 1]
    ids[i + 1] = id_of(ARGV[at + 5])
    formers[i + 1] = ARGV[at + 7]
end
local read = redis.call('HMGET', STATES, unpack(names))
local present = redis.call('HMGET', JOBS, unpack(ids))
local living = redis.call('HMGET', JOBS, unpack(formers))
local state, created = {}, {}
for i, name in ipairs(names) do state[name] = read[i] end

-- A job lives until it is done, cancelled or dead. Its worker may have told its end before it settles it.
local function lives(i, id, history)
    if created[id] then return true end
    if not living[i] or living[i] == '' then return false end
    local dead = DEAD[tier_of(id)]
    if dead and redis.call('ZSCORE', dead, id) then return false end
    local line = redis.call('LINDEX', history, -1)
    return not (line and string.sub(line, 1, 2) == 'e ' and string.find(line, ' ' .. id .. ' ', 1, true))
end

local words, jobs, states, due, over, lines, late = { now }, {}, {}, {}, {}, {}, {}
for i, name in ipairs(names) do
    local at = (i - 1) * STEP
    local history = KEYS[FIRST_HISTORY + tonumber(ARGV[at + 2])]
    local entry, former = ARGV[at + 5], formers[i]
    local word, new = 'fired', 8
    if state[name] ~= ARGV[at + 3] then
        word = 'moved'
    elseif now < tonumber(ARGV[at + 4]) then
        word = 'early'
    elseif former ~= '' and lives(i, former, history) then
        word, new = 'alive', 11
    elseif entry ~= '' and present[i] then
        word = 'taken'
    end
    words[i + 1] = word
    if (word == 'fired' or word == 'alive') and ARGV[at + new] ~= '' then
        local line = ARGV[at + new + 2]
        if line ~= '' then line = line .. ' ' .. string.format('%.0f', now) end
        if word == 'alive' then
            if line ~= '' then line = line .. ' ' .. former end
        elseif entry ~= '' then
            line = line .. ' ' .. ids[i]
            local tier = tier_of(entry)
            jobs[tier] = jobs[tier] or {}
            table.insert(jobs[tier], entry)
            table.insert(jobs[tier], ARGV[at + 6])
            created[ids[i]] = true
            if string.sub(ARGV[at + 10], 1, 2) == 'f ' then
                late[#late + 1] = name
                late[#late + 1] = string.sub(ARGV[at + 10], 3) .. ' ' .. string.format('%.0f', now)
            end
        end
        state[name] = ARGV[at + new]
        states[#states + 1] = name
        states[#states + 1] = ARGV[at + new]
        if tonumber(ARGV[at + new + 1]) > 0 then
            due[#due + 1] = ARGV[at + new + 1]
            due[#due + 1] = name
        else
            over[#over + 1] = name
        end
        if line ~= '' then lines[#lines + 1] = { history, line } end
    end
end

wholly(function()
    for tier, flat in pairs(jobs) do accept(JOBS, READY[tier], WAKE[tier], tier, flat, 1) end
end)
if #states > 0 then redis.call('HSET', STATES, unpack(states)) end
if #late > 0 then redis.call('HSET', LATENESS, unpack(late)) end
if #due > 0 then redis.call('ZADD', FIRES, unpack(due)) end
if #over > 0 then redis.call('ZREM', FIRES, unpack(over)) end
for _, line in ipairs(lines) do
    if redis.call('RPUSH', line[1], line[2]) > HISTORY_LINES + HISTORY_SLACK then
        redis.call('LTRIM', line[1], -HISTORY_LINES, -1)
    end
end
return words
