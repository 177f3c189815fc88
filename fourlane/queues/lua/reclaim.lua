-- Take a dead worker's jobs back, to the front of their queues; at most 500 a call.
-- KEYS  the service's, then the dead worker's leased set, a result key for each suspect, and what the caller's
--       connection sent last
-- ARGV  1 the call's number there
--       2 its lease name, 3 "silent" (its time must have run out), "reported" (its supervisor saw it die) or
--       "guilty" (its supervisor killed it for what some jobs did), 4 crashes that make a dead letter,
--       5 dead letters to keep, 6 milliseconds to keep them, 7 what befell it, in words;
--       8 how many jobs had begun in that process, of whatever service, and 12 "1": the only suspect of these was on
--       trial;
--       9 and 10 what is before and behind a dead letter's id in the body of the job that tells of it;
--       11 milliseconds that those wait which had not begun and have no record, 0: they go to the front too;
--       13 what who waits for a dead letter's result is told, 14 milliseconds to keep that;
--       15 a number, and so many entries of suspects that had lived through their trials;
--       then the entries of the suspects of this service: of those that crashed, of the guilty ones, or of a silent
--       worker of all that it held
-- Reply 1 jobs given back, 2 ids of jobs made dead letters, 3 the number still held
--@include keys
--@include entries
--@include time
--@include clock
--@include waits
--@include batches
--@include wake
--@include forget
--@include bury
--@include telling
--@include waiters
--@include cancelled
--@include lines
--@include once

local LEASED = KEYS[FIRST_OWN_KEY]
local name, how = ARGV[2], ARGV[3]
local limit, most, ttl, fate = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]
local unbegun_ms = tonumber(ARGV[11])

-- A silence may have any cause: only very many of them are held against a job. Of several jobs that ran when a process
-- died one at most is guilty, and is known by it only when no other ran. Of a trial that it was the only suspect of,
-- another may be the cause that is no suspect yet: that is one itself before it has been so as often as is asked for
-- here. Other crashes tell of nobody, for suspects are tried apart, unless that leads nowhere.
local MOST_SILENCES, MOST_ALONE, MOST_CRASHES = 10, limit, limit + 12

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

    local alone, passed = ARGV[12] == '1', tonumber(ARGV[15])
    local begun, result_of = {}, {}
    for i = 16 + passed, #ARGV do
        if how ~= 'silent' then begun[ARGV[i]] = true end
        result_of[id_of(ARGV[i])] = KEYS[FIRST_OWN_KEY + i - 15 - passed]
    end
    local is_known = how == 'guilty' or tonumber(ARGV[8]) <= 1 or limit == 1
    for i = 16, 15 + passed do redis.call('HDEL', CRASHES, id_of(ARGV[i]) .. '|t') end

    -- Returns whether it is to be a dead letter.
    local function count_loss(entry)
        local id = id_of(entry)
        if how == 'silent' then return redis.call('HINCRBY', CRASHES, id .. '|q', 1) >= MOST_SILENCES end
        local crashes = redis.call('HINCRBY', CRASHES, id, 1)
        if crashes < limit then return false end
        if is_known or crashes >= MOST_CRASHES then return true end
        return alone and redis.call('HINCRBY', CRASHES, id .. '|t', 1) >= MOST_ALONE
    end
    local limited = redis.call('HEXISTS', JOBS, CONTROL) == 1
    local back, poisoned, over = 0, {}, {}
    for i = #held, 1, -1 do -- the last first: each goes to the front
        local entry = held[i]
        local id, tier = id_of(entry), tier_of(entry)
        if limited then redis.call('SREM', SLOTS[tier], id) end
        local mark = was_cancelled(id)
        if mark then
            forget_cancelled(entry, mark, now)
            over[#over + 1] = entry
        else
            local poison = false
            if how == 'silent' or begun[entry] then
                poison = count_loss(entry)
                entry = with_record(entry)
            end
            if poison then
                bury(entry, now, 'poison\n' .. fate, '', most, ttl)
                if not is_telling(id) then send_telling(id, ARGV[9] .. cjson.encode(id) .. ARGV[10], now) end
                if result_of[id] then tell_waiters(result_of[id], ARGV[13], ARGV[14]) end
                poisoned[#poisoned + 1] = id
                over[#over + 1] = id
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
    give_up_places(over)
    redis.call('SREM', LEASED, unpack(held))
    redis.call('HINCRBY', STATS, 'reclaimed', back)
    local left = redis.call('SCARD', LEASED)
    if left == 0 then redis.call('ZREM', WORKERS, name) end
    wake_all()
    return { back, poisoned, left }
end)
