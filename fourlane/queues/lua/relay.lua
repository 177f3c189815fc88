-- Accept jobs of the outbox, each once, however often a relay repeats itself: it may have died after the last call
-- and before its commit, and the job may be done and forgotten by now. So ids are remembered apart from jobs.
-- KEYS  1 jobs, 2 relayed, 3 delayed, 4 news, 5-8 the tiers' ready lists, 9-12 the tiers' wake keys
-- ARGV  1 the last moment at which this batch may be accepted, 2 ms to remember ids whose commit is not known,
--       3 ms to remember ids whose commit is, 4 how many of those follow, then they,
--       then for each job its id, its entry, when it may run ("" now), its body
-- Reply now, then "late", or for each job "new" or "known"
local JOBS, RELAYED, DELAYED, NEWS = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local FIRST_READY, FIRST_WAKE = 5, 9
local not_after, open_ms, confirmed_ms = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local confirmed = tonumber(ARGV[4])
--@include entries
--@include time
--@include wholly
--@include delayed

local now = now_ms()
local first_job = 5 + confirmed

local function at(ms) return string.format('%.0f', ms) end

local function remember_confirmed_for_less()
    if confirmed == 0 then return end
    local scored = {}
    for i = 5, 4 + confirmed do
        scored[#scored + 1] = at(now + confirmed_ms)
        scored[#scored + 1] = ARGV[i]
    end
    redis.call('ZADD', RELAYED, 'XX', unpack(scored))
end

-- More than a call adds, so that it keeps up, and few enough to be quick.
local function forget_old()
    local old = redis.call('ZRANGEBYSCORE', RELAYED, '-inf', at(now), 'LIMIT', 0, 2000)
    if #old > 0 then redis.call('ZREM', RELAYED, unpack(old)) end
end

-- The key goes with the last id that it remembers.
local function end_with_the_last()
    local last = redis.call('ZRANGE', RELAYED, -1, -1, 'WITHSCORES')
    if last[2] then redis.call('PEXPIRE', RELAYED, at(last[2] - now + 1000)) end
end

local fields, ready, delayed, remembered = {}, {}, {}, {}

-- Sorts the jobs by where they go; returns a word for each.
local function sort_jobs()
    local ids, words = {}, {}
    for i = first_job, #ARGV, 4 do ids[#ids + 1] = ARGV[i] end
    local known = redis.call('ZMSCORE', RELAYED, unpack(ids))
    local present = redis.call('HMGET', JOBS, unpack(ids))
    for n, id in ipairs(ids) do
        local i = first_job + (n - 1) * 4
        local entry, due, body = ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
        remembered[#remembered + 1] = at(now + open_ms)
        remembered[#remembered + 1] = id
        words[n] = (known[n] or present[n]) and 'known' or 'new'
        if words[n] == 'new' then
            fields[#fields + 1] = id
            fields[#fields + 1] = body
            if due == '' then
                local tier = tonumber(tier_of(id))
                ready[tier] = ready[tier] or {}
                table.insert(ready[tier], entry)
            else
                delayed[#delayed + 1] = due
                delayed[#delayed + 1] = id
            end
        end
    end
    return words
end

local function write_jobs()
    if #fields > 0 then
        redis.call('HSET', JOBS, unpack(fields))
        note_undo_pairs('HDEL', JOBS, fields, 1)
    end
    for tier = 0, 3 do
        if ready[tier] then
            push(KEYS[FIRST_READY + tier], ready[tier])
            redis.call('ZADD', KEYS[FIRST_WAKE + tier], 0, tier)
        end
    end
    put_delayed(DELAYED, NEWS, delayed)
    redis.call('ZADD', RELAYED, unpack(remembered))
end

remember_confirmed_for_less()
forget_old()
local words = {}
if first_job <= #ARGV then
    if now > not_after then return { at(now), 'late' } end
    words = sort_jobs()
    wholly(write_jobs)
end
end_with_the_last()
return { at(now), unpack(words) }
