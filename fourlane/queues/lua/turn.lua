-- One turn of a worker: settle what finished, return what is due, lease what fits.
-- KEYS  the service's, then the worker's leased set, then a result key for each "result", and for each "dead"
--       that has a value for who waits, then, with jobs done to be counted, what remembers that they were
-- ARGV  1 the worker's lease name
--       2 what it asks besides, in words: "ages" (how long each tier has waited), "beat", "control" (the service has
--         one), "lines" (jobs that it settles may have places in lines), "look" (keep house), "news", "watch" (have
--         another worker watch this one)
--       3 and 4 milliseconds of silence that count as its death, while it holds leases and while it holds none
--       5 asked ahead, to run when a wait ends: a moment; the worker counts as idle when it need not be heard of
--         before; else 0
--       6 the number of leases that it believes to hold besides those settled here
--       7 dead letters to keep, 8 milliseconds to keep them
--       9 how many jobs it wants, 10 tiers to try in their order, such as "013"
--       11 a tier to try before, and the most from it, such as "2:1"
--       12 jobs done that are to be counted (parts/count_done.lua)
--       13 the number of jobs that are done, then their entries
--       then for each other finished job six (parts/ends.lua): outcome, entry, and what the outcome needs, else ""
--         result     value, milliseconds to keep it
--         retry      delay in milliseconds, record                       an attempt was spent
--         postpone   delay in milliseconds, record, unknown task's name  no attempt was spent; a delay of 0 of an
--                    unknown task: another worker shall try at once
--         back                                                           to the front, no attempt was spent
--         cancelled
--         dead       reason, record, value for who waits, milliseconds to keep it
--         done
-- Reply names, each with what it stands for; what is not told is left out:
--       gone       asked ahead by a worker that left or was taken for dead, nothing was done
--       lost       the leases ran out, nothing was done
--       refused    entries that it does not hold
--       faults     entries whose outcome could not be written, each with Redis's words: they are held still, and lie
--                  nowhere else
--       dropped    old dead letters that went to keep their number and age
--       news
--       due_in     milliseconds until the next delayed job is due, -1 for none
--       expired    names of workers whose time ran out, and expires_in: until the next one's does, -1 for none
--       workers    their number
--       off        it holds another number of leases than it believes
--       ages       of each tier's oldest job, in milliseconds, -1 for none
--       jobs       leased: their entries, their bodies, and for each that has one its record and its crashes
--       more       tiers that may have more
--       control    the service has one
--       lines      jobs of the service name lines
--       room_in    milliseconds until a limit has room
--       beaten     asked ahead: it counted as idle, and counts as one that holds leases from now on
--       now        the time, when it was needed
--@include keys
local LEASED = KEYS[FIRST_OWN_KEY]
local me, words, silence, idle_silence, ahead_until = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local held, most_dead, dead_ttl = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local want, tiers, first_share, done_before = tonumber(ARGV[9]), ARGV[10], ARGV[11], ARGV[12]
local FINISHED = 13
--@include entries
--@include time
--@include clock
--@include batches
--@include wake
--@include forget
--@include refusals
--@include reply
-- The other parts stand in the blocks that need them: Redis makes a script's functions anew in each call.

local asks = {}
for word in string.gmatch(words, '%l+') do asks[word] = true end
local is_ahead = ahead_until > 0
--@include ends
local done, ends, finished = read_finished(FINISHED)

local alive_until = is_ahead and redis.call('ZSCORE', WORKERS, me)
if is_ahead and not alive_until then return reply({ gone = 1 }) end
if held > 0 and redis.call('EXISTS', LEASED) == 0 then
    if #finished > 0 then redis.call('HINCRBY', STATS, 'stale', #finished) end
    return reply({ lost = 1, refused = finished })
end

local settled = { done = {}, others = {}, refused = {}, faults = {}, delayed = false, dropped = 0, stay = {} }
if #finished > 0 then
    --@include settle_done
    local alone = #done == 1 and #ends == 0
    local is_held = find_held(finished, alone)
    settle_done(done, is_held, alone, settled)
    if #ends > 0 then
        --@include bury
        --@include telling
        --@include cancelled
        --@include unknown
        --@include outcomes
        --@include settle_ends
        settle_ends(ends, done, is_held, settled)
    end
    if #settled.refused > 0 then redis.call('HINCRBY', STATS, 'stale', #settled.refused) end
end
local control = asks.control and redis.call('HGET', JOBS, CONTROL)
if control then
    --@include slots
    release_slots(settled.done, settled.others)
end
if asks.lines or settled.any_cancelled then
    --@include waits
    --@include lines
    settle_places(settled.done, settled.others, settled.stay)
end
if settled.no_more then error(settled.no_more, 0) end
if done_before ~= '' then
    --@include count_done
    count_done(done_before, KEYS[#KEYS])
end

local news = asks.news and redis.call('ZPOPMIN', NEWS, 1)[1] or nil
--@include next_due
local due_in = (asks.look or settled.delayed) and next_due() or nil
local silent, silent_in, workers, off
if asks.look then
    if due_in == 0 then
        --@include waits
        --@include pace
        --@include due
        local refused = move_due()
        if refused then return refused end
        due_in = next_due()
    end
    --@include silences
    silent, silent_in = find_silent(me)
    workers = redis.call('ZCARD', WORKERS)
    off = redis.call('SCARD', LEASED) ~= held and 1 or nil
    control = control or redis.call('HGET', JOBS, CONTROL)
end
local ages
if asks.ages then
    --@include waits
    --@include ages
    ages = read_ages()
end

local leased = {}
if want > 0 then
    --@include touch
    --@include limits
    --@include lease
    leased = lease(want, tiers, first_share, control)
    if leased.refused then return leased.refused end
    held = held + #leased.jobs[1]
    for tier in string.gmatch(leased.more, '%d') do wake(tier) end -- for another worker, which may be idle
end

if asks.beat then redis.call('ZADD', WORKERS, clock() + (held > 0 and silence or idle_silence), me) end
local beaten
if is_ahead and held > 0 and tonumber(alive_until) > ahead_until then
    -- Whether its answer is heard or not: from now on the short silence counts, and somebody watches.
    redis.call('ZADD', WORKERS, clock() + silence, me)
    beaten, asks.watch = 1, true
end
if asks.watch and held > 0 and redis.call('ZCARD', WORKERS) > 1 then redis.call('ZADD', WATCH, 0, 'w') end

return reply({
    refused = settled.refused, faults = settled.faults, dropped = settled.dropped > 0 and settled.dropped or nil,
    news = news, due_in = due_in, expired = silent, expires_in = silent_in, workers = workers, off = off, ages = ages,
    jobs = leased.jobs and #leased.jobs[1] > 0 and leased.jobs or nil, more = leased.more ~= '' and leased.more or nil,
    control = (leased.control or control) and 1 or nil, room_in = leased.room_in, lines = leased.lines,
    beaten = beaten, now = now,
})
