-- Tell what is known of a job. Reads only.
-- KEYS  the service's, then the leased sets of its workers
-- ARGV  1 the job's id
-- Reply state, body, record, crashes, reason, the score of delayed or dead, the worker's index among the leased sets
--@include keys
--@include entries

local id = ARGV[1]
local body = redis.call('HGET', JOBS, id)
if not body then return { 'unknown' } end
local record = redis.call('HGET', RECORDS, id) or ''
local crashes = redis.call('HGET', CRASHES, id) or ''
local reason = redis.call('HGET', REASONS, id) or ''
local function told(state, score, worker)
    return { state, body, record, crashes, reason, score or '', worker or 0 }
end
if body == '' then return told('cancelled') end
local died = redis.call('ZSCORE', DEAD[tier_of(id)], id)
if died then return told('dead', died) end
local due = redis.call('ZSCORE', DELAYED, id) or redis.call('ZSCORE', DELAYED, id .. '|r')
if due then return told('delayed', due) end
for i = FIRST_OWN_KEY, #KEYS do
    for _, entry in ipairs(redis.call('SMEMBERS', KEYS[i])) do
        if id_of(entry) == id then return told('running', '', i - FIRST_OWN_KEY + 1) end
    end
end
return told('ready')
