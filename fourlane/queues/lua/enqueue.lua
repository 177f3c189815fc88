-- Accept jobs that may run now, all of one tier.
-- KEYS  1 jobs, 2 the tier's ready list, 3 the tier's wake key, 4 what the producer's connection sent last
-- ARGV  1 the call's number there, 2 tier, then for each job its entry and its body
-- Reply the number accepted, then the ids that already belong to another job. An equal body under an equal
--       id is the same job given twice: accepted, and nothing is done.
local JOBS, LIST, WAKE, SENT = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local number, tier = ARGV[1], ARGV[2]

-- Nearly all calls are of one job and come the first time: for these nothing is made that only others need.
if #ARGV == 4 and number ~= '1' and number ~= '2' then
    local known = redis.pcall('SET', SENT, number, 'KEEPTTL', 'GET')
    if type(known) == 'string' and #known <= #number and known ~= number then
        local entry, body = ARGV[3], ARGV[4]
        local added = redis.pcall('HSETNX', JOBS, string.match(entry, '^[^|]*'), body)
        if added == 1 then
            local pushed = redis.pcall('RPUSH', LIST, entry)
            local told = type(pushed) == 'number' and redis.pcall('ZADD', WAKE, 0, tier) or pushed
            if type(told) == 'number' then return { 1 } end
            redis.pcall('HDEL', JOBS, string.match(entry, '^[^|]*'))
            if type(pushed) == 'number' then redis.pcall('LTRIM', LIST, 0, -2) end
            added = told
        end
        if type(added) == 'table' then
            redis.call('DEL', SENT)
            return added
        end
    end
    -- As if nothing had been: what follows looks again.
    if type(known) == 'string' then redis.call('SET', SENT, known, 'KEEPTTL') end
    if not known then redis.call('DEL', SENT) end
end

--@include once
--@include entries
--@include wholly
--@include accept

local taken = once(SENT, number, function() return wholly(accept, JOBS, LIST, WAKE, tier, ARGV, 3) end) or {}
return taken.err and taken or { #ARGV / 2 - 1 - #taken, unpack(taken) }
