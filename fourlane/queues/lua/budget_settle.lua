-- Book what a paid call cost, once, however often it is settled.
-- KEYS  1 the reservations, 2 to 5 the accounts that the call is in, 6 rows that are not written yet
--       7 what the caller's connection sent last
-- ARGV  1 the call's number there, 2 the paid call's id, 3 what it cost, in billionths of a dollar, as text
--       4 1: nobody knows its price, 5 the id of its row, 6 the row, to be kept until it is written; empty: not kept
--       7 1: it was made; 0: nobody was called, only what was reserved is given back
--       then names under which the cost counts too
-- Reply 1, or 0: it was settled before
--@include whole
--@include first_reply
--@include reservation

local RESERVATIONS, UNWRITTEN, SENT = KEYS[1], KEYS[6], KEYS[7]
local call, id, cost, unpriced, row, kept = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1', ARGV[5], ARGV[6]
local made = ARGV[7] == '1'
local KEEP_MS = 70 * 86400000

local before = replied_before(SENT, call)
if before then return before[1] end
local known = redis.call('HGET', RESERVATIONS, id)
if not known then return 0 end
before = first_reply(SENT, call, { 1 })
if before then return before[1] end

give_back(cjson.decode(known), accounts(KEYS, 2))
redis.call('HDEL', RESERVATIONS, id)
for i = 2, made and 5 or 1 do
    redis.call('HINCRBY', KEYS[i], 'calls', 1)
    if unpriced then redis.call('HINCRBY', KEYS[i], 'unpriced', 1) end
    if cost ~= '0' then
        redis.call('HINCRBY', KEYS[i], 'spent', cost)
        for name = 8, #ARGV do redis.call('HINCRBY', KEYS[i], 'of:' .. ARGV[name], cost) end
    end
    redis.call('PEXPIRE', KEYS[i], KEEP_MS)
end
if kept ~= '' then redis.call('HSET', UNWRITTEN, row, kept) end
return 1
