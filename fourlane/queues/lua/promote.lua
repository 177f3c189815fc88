-- A worker knows tasks that others did not: their parked jobs go to the front, for it to lease in its next turn. Nobody
-- else is told of them. They are among the delayed jobs that are due within the longest pause (worker/run/unknown.py); at
-- most 200 are looked at in a call.
-- KEYS  the service's
-- ARGV  1 the end of that time, 0 in a sweep's first call, 2 how many before it were looked at and left
--       3 the most jobs to take, 4 tiers to take from, such as "013", then the tasks' names
-- Reply 1 jobs taken, 2 and 3 what the next call is to be given; 3 is empty when that was all
--@include keys
--@include entries
--@include waits
--@include time
--@include unknown

local now, left, most, tiers, known = now_ms(), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], {}
local until_ms = ARGV[1]
for i = 5, #ARGV do known[ARGV[i]] = true end
if until_ms == '0' then
    until_ms = string.format('%.0f', now + LONGEST_PARKED)
    for i = 5, #ARGV do redis.call('ZADD', UNKNOWN, now, KNOWN .. ARGV[i]) end
    redis.call('ZREMRANGEBYSCORE', UNKNOWN, '-inf', now - 172800000)
end

local function is_ours(entry)
    if not has_record(entry) or not string.find(tiers, tier_of(entry), 1, true) then return false end
    local record = redis.call('HGET', RECORDS, id_of(entry))
    if not record or not string.find(record, '"unknown_since_ms":', 1, true) then return false end
    local read, body = pcall(cjson.decode, redis.call('HGET', JOBS, id_of(entry)) or '')
    return read and type(body) == 'table' and known[body[1]] == true
end

-- From the latest on: what becomes due meanwhile leaves at the other end.
local looked = redis.call('ZREVRANGEBYSCORE', DELAYED, until_ms, string.format('(%.0f', now), 'LIMIT', left, 200)
local taken, seen = 0, 0
for _, entry in ipairs(looked) do
    if taken == most then break end
    seen = seen + 1
    if is_ours(entry) then
        redis.call('LPUSH', READY[tier_of(entry)], ready_since(entry, now))
        redis.call('ZREM', DELAYED, entry)
        taken = taken + 1
    end
end
local all_seen = seen == #looked and #looked < 200
return { taken, left + seen - taken, all_seen and '' or until_ms }
