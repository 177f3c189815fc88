-- Delayed jobs become due now.
-- KEYS  the service's
-- ARGV  their ids
-- Reply for each "due" (it is now), "over" (it is done, dead, cancelled or forgotten) or "busy" (it runs, or may run)
--@include keys
--@include entries
--@include time
--@include wake

local now, any, words = now_ms(), false, {}

local function is_over(id)
    local body = redis.call('HGET', JOBS, id)
    return not body or body == '' or redis.call('ZSCORE', DEAD[tier_of(id)], id)
end

for i, id in ipairs(ARGV) do
    local delayed
    for _, entry in ipairs({ id, with_record(id) }) do
        if redis.call('ZSCORE', DELAYED, entry) then
            redis.call('ZADD', DELAYED, 'LT', now, entry)
            delayed, any = true, true
        end
    end
    words[i] = delayed and 'due' or is_over(id) and 'over' or 'busy'
end
if any then tell_due() end
return words
