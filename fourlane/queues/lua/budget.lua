-- Reserve and settle what a tenant spends in a month, in millionths of a dollar.
-- KEYS  1 what was spent, 2 what the caller's connection sent last
-- ARGV  1 the call's number there
--       2 "reserve": 3 the paid call's id, 4 what it may cost, 5 the month's budget (-1: none)
--       2 "settle": 3 the paid call's id, 4 what it cost, 5 the budget, then names under which the cost counts too
--       A paid call that is reserved again under its id replaces its reservation; a second settling does nothing.
-- Reply word, spent and reserved so far. "ok", "warn" (this one passed 80 %), "over" (nothing was reserved)
--@include first_reply

local SPENT, SENT = KEYS[1], KEYS[2]
local call, verb, id, amount, budget = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local KEEP_MS = 70 * 86400000

local before = replied_before(SENT, call)
if before then return before end
local read = redis.call('HMGET', SPENT, 'spent', 'reserved', 'r:' .. id)
local spent, reserved, mine = tonumber(read[1] or 0) or 0, tonumber(read[2] or 0) or 0, tonumber(read[3] or 0) or 0
local others = spent + reserved - mine
local function whole(value) return string.format('%.0f', value) end

if verb == 'reserve' then
    if budget >= 0 and others + amount > budget then return { 'over', others } end
    local passes = budget > 0 and spent + reserved < budget * 0.8 and others + amount >= budget * 0.8
    local reply = { passes and 'warn' or 'ok', others + amount }
    before = first_reply(SENT, call, reply)
    if before then return before end
    redis.call('HSET', SPENT, 'r:' .. id, amount, 'reserved', whole(reserved - mine + amount))
    redis.call('PEXPIRE', SPENT, KEEP_MS)
    return reply
end
if not read[3] then return { 'ok', spent + reserved } end
redis.call('HDEL', SPENT, 'r:' .. id)
redis.call('HSET', SPENT, 'reserved', whole(reserved - mine), 'spent', whole(spent + amount))
for i = 6, #ARGV do redis.call('HINCRBY', SPENT, 'of:' .. ARGV[i], amount) end
redis.call('PEXPIRE', SPENT, KEEP_MS)
return { 'ok', others + amount }
