-- One turn of a worker: settle what finished, return what is due, lease what fits.
-- KEYS  the service's, then the worker's leased set, then a result key for each "result", and for each "dead"
--       that has a value for who waits, then, with jobs done to be counted, what remembers that they were
-- ARGV  1 the worker's lease name
--       2 flags: a asked ahead, to run when a wait ends; b beat, c the service has a control, k keep house,
--                n read the news, s tell how long each tier has waited, w have another worker watch this one
--       3 and 4 milliseconds of silence that count as its death, while it holds leases and while it holds none;
--         asked ahead 4 is a moment: the worker counts as idle when it need not be heard of before
--       5 the number of leases that it believes to hold besides those settled here
--       6 dead letters to keep, 7 milliseconds to keep them
--       8 how many jobs it wants, 9 tiers to try in their order, such as "013"
--       10 tiers to try before, and the most from each, such as "2:1"
--       11 jobs done that are to be counted (parts/count_done.lua)
--       12 the number of jobs that are done, then their entries
--       then for each other finished job six: outcome, entry, and what the outcome needs, else ""
--         result     value, milliseconds to keep it
--         retry      delay in milliseconds, record                       an attempt was spent
--         postpone   delay in milliseconds, record, unknown task's name  no attempt was spent; a delay of 0 of an
--                    unknown task: another worker shall try at once
--         back                                                           to the front, no attempt was spent
--         cancelled
--         dead       reason, record, value for who waits, milliseconds to keep it
--         done
--         A "+" behind the outcome: steps were recorded beside the job's record.
-- Reply 1 "ok", or "lost": the leases ran out, nothing was done; or "gone": asked ahead by a worker that left or
--       was taken for dead, nothing was done; or "off": it holds another number of leases than it believes
--       2 entries refused, 3 news, 4 tiers that may have more
--       5 milliseconds until the next delayed job is due
--       6 names of workers whose time ran out, 7 milliseconds until the next one's does, 8 the number of workers
--       9 for each tier how long its oldest job has waited in milliseconds, -1 for none; empty when not asked
--       10 1 when the service has a control, 11 milliseconds until a limit has room
--       12 entries leased, 13 their bodies, 14 for each that has a record: the record and its crashes
--       15 the time, 0 when it was not asked
--       16 old dead letters dropped to keep their number and age
--       17 entries whose outcome could not be written, each with Redis's words: they are held still, and lie nowhere else
--       In 5, 7, 8 and 11 -1 means none, -2 not looked at.
--@include keys
--@include entries
--@include time
--@include batches
--@include wake
--@include forget
--@include bury
--@include telling
--@include cancelled
--@include unknown
--@include pace
--@include refusals
--@include count_done

local LEASED = KEYS[FIRST_OWN_KEY]
local me, flags, silence, idle_silence = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local held, most, ttl = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local want, tiers, first_share = tonumber(ARGV[8]), ARGV[9], ARGV[10]
local done_before, done_count, others = ARGV[11], tonumber(ARGV[12]), 13 + tonumber(ARGV[12])
local DUE_AT_ONCE = 200

local function asked(flag) return string.find(flags, flag, 1, true) ~= nil end

local now
local function clock()
    now = now or now_ms()
    return now
end

-- Settle ----------------------------------------------------------------------------------------------------

local finished = {}
for i = 13, others - 1 do finished[#finished + 1] = ARGV[i] end
for i = others, #ARGV, 6 do finished[#finished + 1] = ARGV[i + 1] end

local alive_until = asked('a') and redis.call('ZSCORE', WORKERS, me)
if asked('a') and not alive_until then
    return { 'gone', {}, {}, '', -2, {}, -2, -2, {}, 0, -2, {}, {}, {}, 0, 0, {} }
end
if held > 0 and redis.call('EXISTS', LEASED) == 0 then
    if #finished > 0 then redis.call('HINCRBY', STATS, 'stale', #finished) end
    return { 'lost', finished, {}, '', -2, {}, -2, -2, {}, 0, -2, {}, {}, {}, 0, 0, {} }
end

local mine = {}
if #finished == 1 and done_count == 1 then
    mine[1] = redis.call('SREM', LEASED, finished[1]) == 1
else
    each_piece(finished, function(first, last)
        for i, present in ipairs(redis.call('SMISMEMBER', LEASED, unpack(finished, first, last))) do
            mine[first + i - 1] = present == 1
        end
    end)
end

local due_changed = false
local function delay(entry, milliseconds)
    redis.call('ZADD', DELAYED, clock() + milliseconds, entry)
    due_changed = true
end

local result_key = FIRST_OWN_KEY
local function store_result(value, milliseconds)
    result_key = result_key + 1
    redis.call('DEL', KEYS[result_key])
    redis.call('RPUSH', KEYS[result_key], value)
    local kept = redis.pcall('PEXPIRE', KEYS[result_key], milliseconds)
    if type(kept) == 'table' and kept.err then
        redis.call('DEL', KEYS[result_key]) -- without its end it would stay for good
        error(kept.err, 0)
    end
end

-- Each writes the place where the job lies from then on last: when a write before that is refused, it lies nowhere else.
local settle = {}
local mark

-- Whether it was cancelled, and so is forgotten.
local function ends_cancelled(entry)
    mark = was_cancelled(id_of(entry))
    if mark then forget_cancelled(entry, mark, clock()) end
    return mark
end

function settle.done(entry) forget({ entry }) end

function settle.result(entry, value, milliseconds)
    store_result(value, milliseconds)
    forget({ entry })
end

function settle.retry(entry, milliseconds, record)
    if ends_cancelled(entry) then return end
    redis.call('HSET', RECORDS, id_of(entry), record)
    delay(with_record(entry), milliseconds)
end

function settle.postpone(entry, milliseconds, record, unknown_task)
    if ends_cancelled(entry) then return end
    if unknown_task ~= '' then
        local known_since = redis.call('ZSCORE', UNKNOWN, KNOWN .. unknown_task)
        if known_since and clock() - known_since < DEPLOY then milliseconds = deploy_pause(milliseconds) end
        redis.call('ZADD', UNKNOWN, clock(), unknown_task)
        redis.call('ZREMRANGEBYRANK', UNKNOWN, 0, -1001)
    end
    if record ~= '' then redis.call('HSET', RECORDS, id_of(entry), record) end
    if unknown_task ~= '' and tonumber(milliseconds) == 0 then
        tell_due() -- to the worker that waits longest; this one is not told that something is due
        redis.call('ZADD', DELAYED, clock(), with_record(entry))
        return
    end
    delay((record ~= '' or has_record(entry)) and with_record(entry) or id_of(entry), milliseconds)
end

function settle.back(entry)
    if ends_cancelled(entry) then return end
    wake(tier_of(entry))
    redis.call('LPUSH', READY[tier_of(entry)], entry)
end

function settle.cancelled(entry)
    redis.call('ZREM', CANCELS, id_of(entry))
    forget({ with_record(entry) })
end

function settle.dead(entry, reason, record, value, milliseconds)
    if value ~= '' then store_result(value, milliseconds) end
    mark = was_cancelled(id_of(entry)) -- a replay shall not meet the mark of an earlier cancelling
    bury(entry, clock(), reason, record, most, ttl)
end

local function has_value(outcome, value)
    return outcome == 'result' or outcome == 'dead' and value ~= ''
end

-- What it wrote beside its place goes, as far as the job did not have it before.
local function take_back(outcome, entry, value)
    local id = id_of(entry)
    if has_value(outcome, value) then redis.pcall('DEL', KEYS[result_key]) end
    if outcome == 'dead' then redis.pcall('HDEL', REASONS, id) end
    if not has_record(entry) then redis.pcall('HDEL', RECORDS, id) end
    if mark then redis.pcall('ZADD', CANCELS, mark, id) end
end

local refused, done, settled, faults = {}, {}, {}, {}
local ended = {} -- an entry ends once, however often it is among those that finished
local no_more -- what the server refuses for good, whatever the job
for i = 1, done_count do
    if mine[i] then done[#done + 1] = finished[i] else refused[#refused + 1] = finished[i] end
    if others <= #ARGV then ended[finished[i]] = true end
end
if #done > 0 then
    forget(done)
    if #finished > 1 then all('SREM', LEASED, done) end
end
for i = others, #ARGV, 6 do
    local outcome, stepped = string.match(ARGV[i], '^(%l+)(%+?)$')
    local entry = ARGV[i + 1]
    if mine[done_count + (i - others) / 6 + 1] and not ended[entry] then
        ended[entry] = true
        -- First into its new place, then out of the old one: an error between the two loses nothing.
        local place = stepped == '+' and marked_entry(entry) or entry
        local before = result_key
        mark = nil
        local written, fault = pcall(settle[outcome], place, ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5])
        if written then
            settled[#settled + 1] = entry
        else
            result_key = before + (has_value(outcome, ARGV[i + 4]) and 1 or 0)
            take_back(outcome, place, ARGV[i + 4])
            if is_of_the_server(fault) then
                no_more = fault
                break
            end
            faults[#faults + 1] = entry
            faults[#faults + 1] = words_of(fault)
        end
    else
        refused[#refused + 1] = entry
        if has_value(outcome, ARGV[i + 4]) then result_key = result_key + 1 end
    end
end
if #settled > 0 then all('SREM', LEASED, settled) end
if #refused > 0 then redis.call('HINCRBY', STATS, 'stale', #refused) end

local control = asked('c') and redis.call('HGET', JOBS, CONTROL)
if control then
    local released = {}
    for _, list in ipairs({ done, settled }) do
        for _, entry in ipairs(list) do
            local tier = tier_of(entry)
            released[tier] = released[tier] or {}
            table.insert(released[tier], id_of(entry))
        end
    end
    for tier, ids in pairs(released) do
        if all('SREM', SLOTS[tier], ids) > 0 and redis.call('LLEN', READY[tier]) > 0 then wake(tier) end
    end
end
if no_more then error(no_more, 0) end

-- What pcall caught, as a reply: a right that we lack keeps Redis's words, a wrong type gets clearer ones.
local function refusal(fault, wrong_type)
    local text = words_of(fault)
    if string.find(text, 'WRONGTYPE', 1, true) then text = 'WRONGTYPE ' .. wrong_type end
    return redis.error_reply(text)
end

-- Keep house ------------------------------------------------------------------------------------------------

local word, news, due_in, expired, expires_in, workers = 'ok', {}, -2, {}, -2, -2

if asked('n') then
    local told = redis.call('ZPOPMIN', NEWS, 1)
    for i = 1, #told, 2 do news[#news + 1] = told[i] end
end

local function next_due()
    local first = redis.call('ZRANGE', DELAYED, 0, 0, 'WITHSCORES')
    return first[2] and math.max(0, math.ceil(tonumber(first[2]) - clock())) or -1
end

count_done(done_before, KEYS[#KEYS])
if asked('k') then
    due_in = next_due()
    if due_in == 0 then
        local due = redis.call('ZRANGEBYSCORE', DELAYED, '-inf', clock(), 'WITHSCORES', 'LIMIT', 0, DUE_AT_ONCE)
        local ready, unplaced, paces = {}, {}, {}
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
            end
        end
        write_paces(paces)
        local fault, refused_key
        for tier, moved in pairs(ready) do -- each wholly, and one that Redis refuses keeps back no other
            wake(tier)
            local pushed = redis.pcall('RPUSH', READY[tier], unpack(moved.entries))
            if type(pushed) == 'table' then
                fault, refused_key = pushed, READY[tier]
            else
                redis.call('ZREM', DELAYED, unpack(moved.members))
            end
        end
        if #unplaced > 0 then redis.call('ZREM', DELAYED, unpack(unplaced)) end
        if fault then return refusal(fault, refused_key .. ' is not a list') end
        due_changed = true
    end

    expires_in = -1
    local soonest = redis.call('ZRANGE', WORKERS, 0, 9, 'WITHSCORES')
    for i = 1, #soonest, 2 do
        if soonest[i] ~= me then
            local left = tonumber(soonest[i + 1]) - clock()
            if left <= 0 then
                expired[#expired + 1] = soonest[i]
            elseif expires_in < 0 then
                expires_in = left
            end
        end
    end
    workers = redis.call('ZCARD', WORKERS)
    if redis.call('SCARD', LEASED) ~= held then word = 'off' end
    control = control or redis.call('HGET', JOBS, CONTROL)
end

local ages = {}
if asked('s') then
    for tier = 0, 3 do
        local head = redis.call('LINDEX', READY[tostring(tier)], 0)
        local since = head and waiting_since(head)
        ages[tier + 1] = head and math.max(0, clock() - (since or clock())) or -1
    end
end

-- Lease -----------------------------------------------------------------------------------------------------

local room_in = -1

local touched, its_type -- for words on a key of another type

-- How many jobs of a tier its pause, concurrency and rate allow now.
local function allowed(limit, tier, count)
    if limit.paused then return 0 end
    if limit.concurrency then
        touched, its_type = SLOTS[tier], 'set'
        count = math.max(0, math.min(count, limit.concurrency - redis.call('SCARD', SLOTS[tier])))
    end
    if limit.rate and count > 0 then
        touched, its_type = BUCKETS, 'hash'
        local burst = limit.burst or limit.rate
        local bucket = redis.call('HMGET', BUCKETS, tier .. 'level', tier .. 'time')
        local passed = math.max(0, clock() - (tonumber(bucket[2]) or 0))
        local level = math.min(burst, (tonumber(bucket[1]) or burst) + passed * limit.rate / limit.per_ms)
        redis.call('HSET', BUCKETS, tier .. 'level', level, tier .. 'time', clock())
        if count > math.floor(level) then
            local wait = math.ceil((math.floor(level) + 1 - level) * limit.per_ms / limit.rate)
            if room_in < 0 or wait < room_in then room_in = wait end
            count = math.floor(level)
        end
    end
    return count
end

local function spend(limit, tier, entries)
    if limit.rate then redis.call('HINCRBYFLOAT', BUCKETS, tier .. 'level', -#entries) end
    if limit.concurrency then
        for _, entry in ipairs(entries) do redis.call('SADD', SLOTS[tier], id_of(entry)) end
    end
end

local more, popped, orphans = {}, {}, 0
local function pop(limits)
    local entries = {}
    popped = entries
    local function take(tier, count)
        count = math.min(count, want - #entries)
        if count == 0 then
            more[tier] = true
            return
        end
        local limit = limits[tier]
        local permit = limit and allowed(limit, tier, count) or count
        touched, its_type = READY[tier], 'list'
        local got = permit > 0 and redis.call('LPOP', READY[tier], permit) or {}
        for _, entry in ipairs(got) do
            if tier_of(entry) == tier then
                entries[#entries + 1] = entry
            else
                orphans = orphans + 1
            end
        end
        if limit and #got > 0 then spend(limit, tier, got) end
        more[tier] = permit == count and #got == count
    end
    for tier, count in string.gmatch(first_share, '(%d):(%d+)') do take(tier, tonumber(count)) end
    for tier in string.gmatch(tiers, '%d') do take(tier, want) end
end

local function put_back()
    for i = #popped, 1, -1 do
        local tier = tier_of(popped[i])
        redis.call('LPUSH', READY[tier], popped[i])
        if control then redis.pcall('SREM', SLOTS[tier], id_of(popped[i])) end
    end
end

local function read_limits(text)
    local read, limits = pcall(cjson.decode, text)
    return read and type(limits) == 'table' and limits or {}
end

-- The bodies of what was popped. The control lies beside them, so that a service that has none pays nothing to know it.
local function read_bodies()
    local ids, bodies, found_control = {}, {}, nil
    for i = 1, #popped do ids[i] = id_of(popped[i]) end
    touched, its_type = JOBS, 'hash'
    each_piece(ids, function(first, last)
        local got = redis.call('HMGET', JOBS, CONTROL, unpack(ids, first, last))
        found_control = got[1]
        for i = 2, #got do bodies[first + i - 2] = got[i] end
    end)
    return bodies, found_control
end

local entries, bodies, records = {}, {}, {}

-- Returns those that were cancelled while they waited: they are not leased.
local function lease()
    pop(control and read_limits(control) or {})
    local found, found_control = read_bodies()
    if found_control and not control then
        put_back()
        control = found_control
        pop(read_limits(control))
        found = read_bodies()
    end
    local void = {}
    for i, entry in ipairs(popped) do
        if found[i] and found[i] ~= '' then
            entries[#entries + 1] = entry
            bodies[#bodies + 1] = found[i]
        elseif found[i] then
            void[#void + 1] = entry
        else
            orphans = orphans + 1
        end
    end
    touched, its_type = LEASED, 'set'
    if #entries > 0 then all('SADD', LEASED, entries) end
    return void
end

if want > 0 then
    local leased, void = pcall(lease)
    if not leased then
        put_back()
        return refusal(void, touched .. ' is not a ' .. its_type)
    end
    for _, entry in ipairs(void) do
        forget({ with_record(entry) })
        redis.call('HINCRBY', STATS, 'void:' .. tier_of(entry), -1)
    end
    if orphans > 0 then redis.call('HINCRBY', STATS, 'orphans', orphans) end
    for _, entry in ipairs(entries) do
        if has_record(entry) then
            records[#records + 1] = redis.pcall('HGET', RECORDS, id_of(entry)) or ''
            records[#records + 1] = redis.pcall('HGET', CRASHES, id_of(entry)) or ''
        end
    end
end

local rest = ''
for tier, left in pairs(more) do
    if left then
        rest = rest .. tier
        wake(tier) -- for another worker, which may be idle
    end
end

-- Beat ------------------------------------------------------------------------------------------------------

if asked('b') then
    redis.call('ZADD', WORKERS, clock() + (held + #entries > 0 and silence or idle_silence), me)
end
if alive_until and #entries > 0 and tonumber(alive_until) > tonumber(idle_silence) then
    -- Whether its answer is heard or not: from now on the short silence counts, and somebody watches.
    redis.call('ZADD', WORKERS, clock() + silence, me)
    flags = flags .. 'w'
end
if asked('w') and held + #entries > 0 and redis.call('ZCARD', WORKERS) > 1 then redis.call('ZADD', WATCH, 0, 'w') end
if due_changed then due_in = next_due() end

return {
    word, refused, news, rest, due_in, expired, expires_in, workers, ages, control and 1 or 0, room_in,
    entries, bodies, records, now or 0, dropped_letters, faults,
}
