-- Ask whether a call to a provider may start now, and reserve its request and tokens.
-- KEYS  1 the target's state
-- ARGV  1 requests a minute, 2 tokens a minute (0: no limit), 3 tokens that the call may take,
--       4 milliseconds that a probe may take, 5 milliseconds of the ramp after a breaker closed
-- Reply word, milliseconds, second
--       "go" or "probe": it may start; the second under which its tokens are booked
--       "open": the breaker is open, ask again after the milliseconds
--       "full": a limit has no room, or the provider asked for silence, for so many milliseconds
--@include time

local STATE = KEYS[1]
local requests, tokens, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local probe_ms, ramp_ms = tonumber(ARGV[4]), tonumber(ARGV[5])
local KEEP_MS = 86400000
local WINDOW = 60

local now = now_ms()
local second = math.floor(now / 1000)

local state, gone, used_requests, used_tokens, seconds = {}, {}, 0, 0, {}
local raw = redis.call('HGETALL', STATE)
for i = 1, #raw, 2 do
    local kind, at = string.match(raw[i], '^([rt]):(%d+)$')
    local value = tonumber(raw[i + 1])
    if not kind then
        state[raw[i]] = value
    elseif tonumber(at) + WINDOW < second then -- all of that second lies more than a minute back
        gone[#gone + 1] = raw[i]
    else
        at = tonumber(at)
        local one = seconds[at] or { at = at, r = 0, t = 0 }
        one[kind] = value
        seconds[at] = one
        if kind == 'r' then used_requests = used_requests + value else used_tokens = used_tokens + value end
    end
end
if #gone > 0 then redis.call('HDEL', STATE, unpack(gone)) end

local word = 'go'
local opened_until = state.opened_until or 0
if opened_until > now then return { 'open', opened_until - now, second } end
if opened_until > 0 then
    if (state.probe_until or 0) > now then return { 'open', math.min(1000, state.probe_until - now), second } end
    word = 'probe'
end
if (state.silent_until or 0) > now then return { 'full', state.silent_until - now, second } end

-- After the breaker closed: 1 call in the first tenth of the ramp, then each time twice as many.
local since = now - (state.closed_at or 0)
local ramps = word == 'go' and since < ramp_ms
if ramps then
    local tenth = math.floor(since * 10 / ramp_ms)
    if (state.ramped or 0) >= 2 ^ (tenth + 1) - 1 then
        return { 'full', math.ceil((tenth + 1) * ramp_ms / 10 - since), second }
    end
end

-- Whole seconds are counted, so that no minute of the provider's clock, wherever it begins, holds more.
local over_requests = requests > 0 and used_requests + 1 - requests or 0
local over_tokens = tokens > 0 and used_tokens + wanted - tokens or 0
if over_requests > 0 or over_tokens > 0 then
    local order = {}
    for _, one in pairs(seconds) do order[#order + 1] = one end
    table.sort(order, function(a, b) return a.at < b.at end)
    for _, one in ipairs(order) do
        over_requests, over_tokens = over_requests - one.r, over_tokens - one.t
        if over_requests <= 0 and over_tokens <= 0 then
            return { 'full', math.max(1, (one.at + WINDOW + 1) * 1000 - now), second }
        end
    end
    return { 'full', WINDOW * 1000, second }
end

if requests > 0 then redis.call('HINCRBY', STATE, 'r:' .. second, 1) end
if tokens > 0 and wanted > 0 then redis.call('HINCRBY', STATE, 't:' .. second, wanted) end
if ramps then redis.call('HINCRBY', STATE, 'ramped', 1) end
if word == 'probe' then redis.call('HSET', STATE, 'probe_until', now + probe_ms) end
redis.call('PEXPIRE', STATE, KEEP_MS)
return { word, 0, second }
