-- A worker that begins knows tasks that others did not: make their parked jobs due; at most 200 are looked at in a call.
-- They are among the delayed jobs that are due within the longest pause (worker/unknown.py).
-- KEYS  the service's
-- ARGV  1 the end of that time, 0 in the first call, 2 how many before it were looked at, then the tasks' names
-- Reply 1 jobs made due, 2 and 3 what the next call is to be given; 3 is empty when that was all
--@include keys
--@include entries
--@include time
--@include wake
--@include unknown

local now, passed, known = now_ms(), tonumber(ARGV[2]), {}
local until_ms = ARGV[1]
for i = 3, #ARGV do known[ARGV[i]] = true end
if until_ms == '0' then
    until_ms = string.format('%.0f', now + LONGEST_PARKED)
    for i = 3, #ARGV do redis.call('ZADD', UNKNOWN, now, KNOWN .. ARGV[i]) end
    redis.call('ZREMRANGEBYSCORE', UNKNOWN, '-inf', now - 172800000)
end

local function is_ours(entry)
    if not has_record(entry) then return false end
    local record = redis.call('HGET', RECORDS, id_of(entry))
    if not record or not string.find(record, '"unknown_since_ms":', 1, true) then return false end
    local read, body = pcall(cjson.decode, redis.call('HGET', JOBS, id_of(entry)) or '')
    return read and type(body) == 'table' and known[body[1]] == true
end

-- From the latest on: what becomes due meanwhile leaves at the other end.
local looked = redis.call('ZREVRANGEBYSCORE', DELAYED, until_ms, string.format('(%.0f', now), 'LIMIT', passed, 200)
local due = 0
for _, entry in ipairs(looked) do
    if is_ours(entry) then
        redis.call('ZADD', DELAYED, now, entry)
        due = due + 1
    end
end
if due > 0 then tell_due() end
return { due, passed + #looked - due, #looked == 200 and until_ms or '' }
