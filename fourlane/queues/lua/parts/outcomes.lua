-- Needs keys, entries, batches, wake, forget, bury, cancelled, unknown, clock. How each outcome of a run is written
-- (outcome.py has their meaning); an end is as parts/ends.lua reads it.
-- Each writes the place where the job lies from then on last: when a write before that is refused, it lies nowhere else.
local mark -- of a job that was cancelled while it ran
local any_delayed = false
local STAYS = { back = 'ready', retry = 'delayed', postpone = 'delayed' } -- the job lives on
local outcomes = {}

-- The same entry, and marked as one that has a record.
local function marked_entry(entry)
    if has_record(entry) then return entry end
    local bar = string.find(entry, '|', 1, true)
    return bar and string.sub(entry, 1, bar) .. 'r' .. string.sub(entry, bar + 1) or entry .. '|r'
end

local function delay(entry, milliseconds)
    redis.call('ZADD', DELAYED, clock() + milliseconds, entry)
    any_delayed = true
end

-- Whether it was cancelled, and so is forgotten.
local function ends_cancelled(entry)
    mark = was_cancelled(id_of(entry))
    if mark then forget_cancelled(entry, mark, clock()) end
    return mark
end

local function store_result(key, value, milliseconds)
    redis.call('DEL', key)
    redis.call('RPUSH', key, value)
    local kept = redis.pcall('PEXPIRE', key, milliseconds)
    if type(kept) == 'table' and kept.err then
        redis.call('DEL', key) -- without its end it would stay for good
        error(kept.err, 0)
    end
end

function outcomes.done(entry) forget({ entry }) end

function outcomes.result(entry, key, value, milliseconds)
    store_result(key, value, milliseconds)
    forget({ entry })
end

function outcomes.retry(entry, _, milliseconds, record)
    if ends_cancelled(entry) then return end
    redis.call('HSET', RECORDS, id_of(entry), record)
    delay(with_record(entry), milliseconds)
end

function outcomes.postpone(entry, _, milliseconds, record, unknown_task)
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

function outcomes.back(entry)
    if ends_cancelled(entry) then return end
    wake(tier_of(entry))
    redis.call('LPUSH', READY[tier_of(entry)], entry)
end

function outcomes.cancelled(entry)
    redis.call('ZREM', CANCELS, id_of(entry))
    forget({ with_record(entry) })
end

function outcomes.dead(entry, key, reason, record, value, milliseconds)
    if key then store_result(key, value, milliseconds) end
    mark = was_cancelled(id_of(entry)) -- a replay shall not meet the mark of an earlier cancelling
    bury(entry, clock(), reason, record, most_dead, dead_ttl)
end

-- What it wrote beside its place goes, as far as the job did not have it before.
local function take_back(ended, entry)
    local id = id_of(entry)
    if ended.key then redis.pcall('DEL', ended.key) end
    if ended.outcome == 'dead' then redis.pcall('HDEL', REASONS, id) end
    if not has_record(entry) then redis.pcall('HDEL', RECORDS, id) end
    if mark then redis.pcall('ZADD', CANCELS, mark, id) end
end

local function was_marked() return mark end

-- Returns what Redis refuses, if it does.
local function write_end(ended)
    -- Steps that were recorded make the record beside which they lie.
    local entry = ended.stepped and marked_entry(ended.entry) or ended.entry
    mark = nil
    local from = ended.needs_from
    local written, fault = pcall(outcomes[ended.outcome], entry, ended.key, unpack(ARGV, from, from + 3))
    if written then return nil end
    take_back(ended, entry)
    return fault
end
