-- Make dead letters ready again: same ids, their history kept, attempts counted anew.
-- KEYS  the service's, then for each job its result, and what the caller's connection sent last
-- ARGV  1 the call's number there, 2 of a replay at a rate: milliseconds from one job to the next in this
--       service ("" when all may go at once)
--       3 its number here, 0 in its first call
--       then four for each: id, the time of its death as it was read, milliseconds to wait, its record as it shall be
--       (attempts counted anew; "" leaves it as it is)
-- Reply the replay's number, then the ids replayed; one that died again meanwhile is not among them
--@include keys
--@include entries
--@include waits
--@include time
--@include wake
--@include pace
--@include once

return once(KEYS[#KEYS], ARGV[1], function()
    local now, step, number = now_ms(), tonumber(ARGV[2]), tonumber(ARGV[3])
    -- Of another type they would be refused only when a job lies in its new place, and it would be in both.
    redis.call('HEXISTS', REASONS, '')
    redis.call('HEXISTS', STATS, '')
    local pace
    if step then
        if number == 0 then number = new_pace(now) end
        pace = ARGV[3] ~= '0' and read_pace(number) or { step = step, last = now, let = 0 }
    end
    local replayed = { number }
    for i = 4, #ARGV, 4 do
        local id, wait, record = ARGV[i], tonumber(ARGV[i + 2]), ARGV[i + 3]
        local tier = tier_of(id)
        local died = DEAD[tier] and redis.call('ZSCORE', DEAD[tier], id)
        if died and tonumber(died) == tonumber(ARGV[i + 1]) and redis.call('HEXISTS', JOBS, id) == 1 then
            redis.call('HDEL', CRASHES, id, id .. '|q', id .. '|t')
            -- How it ended is not how it will end: until it runs, who waits is told by its state.
            redis.call('DEL', KEYS[FIRST_OWN_KEY + (i - 4) / 4])
            if record ~= '' then redis.call('HSET', RECORDS, id, record) end
            if pace and wait > 0 then
                tell_due()
                redis.call('ZADD', DELAYED, paced(now + wait, number), id .. '|r')
                pace.last = math.max(pace.last, now + wait)
            else
                wake(tier)
                redis.call('RPUSH', READY[tier], ready_since(id .. '|r', now))
            end
            redis.call('HDEL', REASONS, id)
            redis.call('ZREM', DEAD[tier], id)
            redis.call('HINCRBY', STATS, 'replayed:' .. tier, 1)
            replayed[#replayed + 1] = id
        end
    end
    if pace then write_pace(number, pace) end
    return replayed
end)
