-- Give back what a reservation holds whose call will not be settled by its job. It is remembered that there was one:
-- a call that ends after all, and a job that is replayed behind its paid step, are booked then.
-- KEYS  1 the reservations, 2 to 5 the accounts that the call is in
-- ARGV  1 the paid call's id, 2 the reservation as it was seen, 3 what is remembered; empty: nothing
-- Reply 1, or 0: it has changed since
--@include whole
--@include reservation

local RESERVATIONS = KEYS[1]
local id, seen, remembered = ARGV[1], ARGV[2], ARGV[3]

if redis.call('HGET', RESERVATIONS, id) ~= seen then return 0 end
give_back(cjson.decode(seen), accounts(KEYS, 2))
if remembered == '' then redis.call('HDEL', RESERVATIONS, id) else redis.call('HSET', RESERVATIONS, id, remembered) end
return 1
