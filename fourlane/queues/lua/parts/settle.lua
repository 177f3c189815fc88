-- Needs keys, entries, batches, forget, refusals, outcomes. Settle what finished: `done` plainly, and other `ends` each
-- by its outcome. Of those that this worker holds no more nothing is changed.

local function entries_of(done, ends)
    if #ends == 0 then return done end
    local entries = {}
    for i, entry in ipairs(done) do entries[i] = entry end
    for _, ended in ipairs(ends) do entries[#entries + 1] = ended.entry end
    return entries
end

-- Which of them it holds. A lone one that is done leaves its leases in the same command.
local function find_held(finished, alone)
    if alone then return { redis.call('SREM', LEASED, finished[1]) == 1 } end
    local held = {}
    each_piece(finished, function(first, last)
        for i, present in ipairs(redis.call('SMISMEMBER', LEASED, unpack(finished, first, last))) do
            held[first + i - 1] = present == 1
        end
    end)
    return held
end

local function settle_done(done, held, settled, alone)
    local plain = {}
    for i, entry in ipairs(done) do
        if held[i] then plain[#plain + 1] = entry else settled.refused[#settled.refused + 1] = entry end
    end
    if #plain == 0 then return end
    forget(plain)
    if not alone then all('SREM', LEASED, plain) end
    settled.done = plain
end

-- First into its new place, then out of the old one: an error between the two loses nothing.
local function settle_ends(ends, done, held, settled)
    local seen = {} -- an entry ends once, however often it is among those that finished
    if #ends > 0 then
        for _, entry in ipairs(done) do seen[entry] = true end
    end
    for i, ended in ipairs(ends) do
        local entry = ended.entry
        if held[#done + i] and not seen[entry] then
            seen[entry] = true
            local fault = write_end(ended)
            if not fault then
                settled.others[#settled.others + 1] = entry
            elseif is_of_the_server(fault) then
                settled.no_more = fault
                break
            else
                settled.faults[#settled.faults + 1] = entry
                settled.faults[#settled.faults + 1] = words_of(fault)
            end
        else
            settled.refused[#settled.refused + 1] = entry
        end
    end
    if #settled.others > 0 then all('SREM', LEASED, settled.others) end
end

-- Returns what became of them: `done`, `others`, `refused` (not held), `faults` (entries and Redis's words), and
-- `no_more`: what the server refuses for good, whatever the job.
local function settle(done, ends)
    local settled = { done = {}, others = {}, refused = {}, faults = {} }
    local finished = entries_of(done, ends)
    local alone = #done == 1 and #finished == 1
    local held = find_held(finished, alone)
    settle_done(done, held, settled, alone)
    settle_ends(ends, done, held, settled)
    if #settled.refused > 0 then redis.call('HINCRBY', STATS, 'stale', #settled.refused) end
    return settled
end
