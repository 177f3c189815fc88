-- Take a dead worker's jobs back, to the front of their queues; at most 500 a call.
-- KEYS  the service's, then the dead worker's leased set, and what the caller's connection sent last
-- ARGV  1 the call's number there
--       2 its lease name, 3 "silent" (its time must have run out), "reported" (its supervisor saw it die) or
--       "guilty" (its supervisor killed it for what some jobs did), 4 crashes that make a dead letter,
--       5 dead letters to keep, 6 milliseconds to keep them, 7 what befell it, in words;
--       8 how many jobs had begun in that process, of whatever service, and 12 how many of these were suspects;
--       9 and 10 what is before and behind a dead letter's id in the body of the job that tells of it;
--       11 milliseconds that those wait which had not begun and have no record, 0: they go to the front too;
--       unless silent, then the entries of those of this service, or of the guilty ones
-- Reply 1 jobs given back, 2 ids of jobs made dead letters, 3 the number still held
--@include keys
--@include entries
--@include time
--@include batches
--@include wake
--@include forget
--@include bury
--@include cancelled
--@include telling
--@include once

local LEASED = KEYS[FIRST_OWN_KEY]
local name, how = ARGV[2], ARGV[3]
local limit, most, ttl, fate = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]
local unbegun_ms = tonumber(ARGV[11])

-- A silence may have any cause: only very many of them are held against a job. Of several jobs that ran when a process
-- died one at most is guilty. A suspect beside others, which may be new, is not taken for it as soon as one that ran
-- alone; of several suspects none is, for they are tried apart, unless that leads nowhere.
local MOST_SILENCES, MOST_BESIDE_OTHERS, MOST_TRIALS = 10, limit + 2, limit + 12

return once(KEYS[#KEYS], ARGV[1], function()
    local now = now_ms()
    local deadline = redis.call('ZSCORE', WORKERS, name)
    if how == 'silent' and deadline and tonumber(deadline) > now then return { 0, {}, -1 } end

    local held = redis.call('SRANDMEMBER', LEASED, 500)
    if #held == 0 then
        redis.call('ZREM', WORKERS, name)
        return { 0, {}, 0 }
    end
    table.sort(held)

    local begun = {}
    for i = 13, #ARGV do begun[ARGV[i]] = true end
    local most_crashes = tonumber(ARGV[12]) <= 1 and MOST_BESIDE_OTHERS or MOST_TRIALS
    if how == 'guilty' or tonumber(ARGV[8]) <= 1 or limit == 1 then most_crashes = limit end

    -- Returns whether it is to be a dead letter.
    local function count_loss(entry)
        local id = id_of(entry)
        if how == 'silent' then return redis.call('HINCRBY', CRASHES, id .. '|q', 1) >= MOST_SILENCES end
        return redis.call('HINCRBY', CRASHES, id, 1) >= most_crashes
    end
    local limited = redis.call('HEXISTS', JOBS, CONTROL) == 1
    local back, poisoned = 0, {}
    for i = #held, 1, -1 do -- the last first: each goes to the front
        local entry = held[i]
        local id, tier = id_of(entry), tier_of(entry)
        if limited then redis.call('SREM', SLOTS[tier], id) end
        if was_cancelled(id) then
            forget({ with_record(entry) })
        else
            local poison = false
            if how == 'silent' or begun[entry] then
                poison = count_loss(entry)
                entry = with_record(entry)
            end
            if poison then
                bury(entry, now, 'poison\n' .. fate, '', most, ttl)
                if not is_telling(id) then send_telling(id, ARGV[9] .. cjson.encode(id) .. ARGV[10], now) end
                poisoned[#poisoned + 1] = id
            else
                if unbegun_ms > 0 and not begun[held[i]] and not has_record(entry) then
                    redis.call('ZADD', DELAYED, now + unbegun_ms, id)
                else
                    redis.call('LPUSH', READY[tier], entry)
                end
                back = back + 1
            end
        end
    end
    redis.call('SREM', LEASED, unpack(held))
    redis.call('HINCRBY', STATS, 'reclaimed', back)
    local left = redis.call('SCARD', LEASED)
    if left == 0 then redis.call('ZREM', WORKERS, name) end
    wake_all()
    return { back, poisoned, left }
end)
