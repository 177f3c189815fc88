-- Reserve and settle what a tenant spends in a month, in millionths of a dollar.
-- KEYS  1 what was spent
-- ARGV  1 "reserve": 2 the call's id, 3 what it may cost, 4 the month's budget (-1: none)
--       1 "settle": 2 the call's id, 3 what it cost, 4 the budget, then names under which the cost counts too
--       A call that comes again under its id replaces its reservation; a second settling does nothing.
-- Reply word, spent and reserved so far. "ok", "warn" (this one passed 80 %), "over" (nothing was reserved)
local SPENT = KEYS[1]
local verb, id, amount, budget = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local KEEP_MS = 70 * 86400000

local function number(field) return tonumber(redis.call('HGET', SPENT, field) or 0) or 0 end
local before = number('spent') + number('reserved')
local mine = number('r:' .. id)
local word = 'ok'
if verb == 'reserve' then
    local after = before - mine + amount
    if budget >= 0 and after > budget then return { 'over', before - mine } end
    redis.call('HSET', SPENT, 'r:' .. id, amount)
    redis.call('HINCRBY', SPENT, 'reserved', amount - mine)
    if budget > 0 and before < budget * 0.8 and after >= budget * 0.8 then word = 'warn' end
    before = after
elseif redis.call('HDEL', SPENT, 'r:' .. id) == 1 then
    redis.call('HINCRBY', SPENT, 'reserved', 0 - mine) -- never "-0", which Redis refuses
    redis.call('HINCRBY', SPENT, 'spent', amount)
    for i = 5, #ARGV do redis.call('HINCRBY', SPENT, 'of:' .. ARGV[i], amount) end
    before = before - mine + amount
end
redis.call('PEXPIRE', SPENT, KEEP_MS)
return { word, before }
