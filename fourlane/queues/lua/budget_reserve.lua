-- Set aside what a paid call may cost, in all budgets that it falls under or in none.
-- KEYS  1 the reservations, 2 to 5 the accounts that the call is in, 6 what the caller's connection sent last
-- ARGV  1 the call's number there, 2 the paid call's id, 3 what it may cost, 4 what else the reservation says (JSON),
--       5 milliseconds for which a refusal is shown; 0: it is not, the caller will ask again
--       then for each budget: the account (1 to 4), the field that it bounds, the most, from where to warn
--       Money is in billionths of a dollar, as text: it is added by Redis, which is exact.
-- Reply "over", the number of the first budget that it would pass, what is spent and reserved of that; nothing is reserved
--       "ok", then for each budget that it brings over its warning, once: its number, what is spent and reserved of it
--       A paid call that is reserved again under its id replaces its reservation.
--@include time
--@include whole
--@include first_reply
--@include reservation

local RESERVATIONS, SENT = KEYS[1], KEYS[6]
local call, id, amount, about, shown_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local KEEP_MS = 70 * 86400000

local before = replied_before(SENT, call)
if before then return before end

local account_of = accounts(KEYS, 2)
local known = redis.call('HGET', RESERVATIONS, id)
local mine, own = known and cjson.decode(known), {}
for _, held in ipairs(mine and mine.held or {}) do own[held[1] .. held[2]] = tonumber(mine.nano) end

local reply, fields, warned = { 'ok' }, {}, {}
for i = 6, #ARGV, 4 do
    local number, account, field = (i - 2) / 4, KEYS[1 + ARGV[i]], ARGV[i + 1]
    local most, warn = tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
    local read = redis.call('HMGET', account, field, 'held:' .. field, 'warned:' .. field, 'before')
    local earlier = field == 'spent' and tonumber(read[4] or 0) or 0
    local used = (tonumber(read[1] or 0) or 0) + (tonumber(read[2] or 0) or 0) - (own[account .. field] or 0) + earlier
    local total = used + tonumber(amount)
    if total > most then
        if shown_ms > 0 then
            redis.call('HSET', account, 'refusing:' .. field, whole(now_ms() + shown_ms))
            if field ~= 'spent' then redis.call('HINCRBY', account, field, 0) end
            redis.call('PEXPIRE', account, KEEP_MS)
            for all = 4, 5 do -- so that who looks at all finds one that has spent nothing
                redis.call('HINCRBY', KEYS[all], 'of:tenant:' .. cjson.decode(about).tenant, 0)
                redis.call('PEXPIRE', KEYS[all], KEEP_MS)
            end
        end
        return { 'over', whole(number), whole(used) }
    end
    fields[#fields + 1] = { account, field }
    if total >= warn and read[3] ~= whole(most) then
        reply[#reply + 1] = whole(number)
        reply[#reply + 1] = whole(total)
        warned[#warned + 1] = { account, 'warned:' .. field, whole(most) }
    end
end

before = first_reply(SENT, call, reply)
if before then return before end
for _, one in ipairs(warned) do redis.call('HSET', unpack(one)) end
if mine then give_back(mine, account_of) end
for _, held in ipairs(fields) do
    if amount ~= '0' then redis.call('HINCRBY', held[1], 'held:' .. held[2], amount) end
    redis.call('PEXPIRE', held[1], KEEP_MS)
end
local kept = cjson.decode(about)
kept.nano, kept.at = amount, whole(now_ms())
if #fields > 0 then kept.held = fields end
redis.call('HSET', RESERVATIONS, id, cjson.encode(kept))
return reply
