-- Ask whether a call to a provider may start now, and reserve its request and tokens.
-- KEYS  1 the target's state, 2 what the caller's connection sent last
-- ARGV  1 the call's number there, 2 requests a minute, 3 tokens a minute (0: no limit), 4 tokens that it may take
--       5 milliseconds for which a probe without a sign of life holds the others up, 6 milliseconds of the ramp after a breaker
--       closed, 7 who calls, a number that is the same for all tries of a call
-- Reply word, number, second
--       "go": it may start; 0, the second under which its tokens are booked
--       "probe": it may start, though the breaker is open; its claim to be the only one, the second
--       "open": the breaker is open, ask again after so many milliseconds
--       "full": a limit has no room, or the provider asked for silence, for so many milliseconds
--       A call that comes again is booked once.
--@include time
--@include first_reply

local STATE, SENT = KEYS[1], KEYS[2]
local call, requests, tokens, wanted = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local claim_ms, ramp_ms, caller = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local KEEP_MS, KEPT_ANEW_MS = 86400000, 3600000
local REMEMBERED = 64
local WINDOW = 60
local COLON = 58

local now = now_ms()
local second = math.floor(now / 1000)

local state, gone, used_requests, used_tokens, seconds = {}, {}, 0, 0, {}
local raw = redis.call('HGETALL', STATE)
for i = 1, #raw, 2 do
    local name, value = raw[i], tonumber(raw[i + 1])
    local at = string.byte(name, 2) == COLON and tonumber(string.sub(name, 3)) -- r:SECOND, t:SECOND
    if not at then
        state[name] = value
    elseif at + WINDOW < second then -- all of that second lies more than a minute back
        gone[#gone + 1] = name
    else
        local kind, one = string.sub(name, 1, 1), seconds[at] or { at = at, r = 0, t = 0 }
        one[kind] = value
        seconds[at] = one
        if kind == 'r' then used_requests = used_requests + value else used_tokens = used_tokens + value end
    end
end
if #gone > 0 then redis.call('HDEL', STATE, unpack(gone)) end

local function at(number) return string.format('%.0f', number) end

-- Whether this call is one of those that failed lately (settled by provider_settle.lua).
local function failed()
    for i = 1, math.min(state.failed or 0, REMEMBERED) do
        if state['failed' .. i] == caller then return true end
    end
    return false
end

-- Milliseconds until an open breaker lets this call through; 0: it is the probe.
local function closed_for(opened_until)
    local claimed = (state.probe_until or 0) - now
    -- The others come back soon, then each time after twice as long: soon for a probe that is answered soon.
    if claimed > 0 then return math.min(claimed, math.max(250, claim_ms - claimed)) end
    -- One that failed before says least of the provider: it may be its own fault.
    local due = not failed() and state.probe_at or opened_until
    return math.max(0, math.min(due, opened_until) - now)
end

-- After the breaker closed: 1 call in the first tenth of the ramp, then each time twice as many.
-- Whether it ramps, and milliseconds until the next tenth when this one is full.
local function ramping()
    local closed_at = state.closed_at or 0
    local ramp = math.min(ramp_ms, closed_at - (state.opened_at or 0)) -- no longer than it was open
    local since = now - closed_at
    if since >= ramp then return false, 0 end
    local tenth = math.floor(since * 10 / ramp)
    if (state.ramped or 0) < 2 ^ (tenth + 1) - 1 then return true, 0 end
    return true, math.ceil((tenth + 1) * ramp / 10 - since)
end

-- Decides: the reply, and what is to be booked.
local function decide()
    local word, number, booked = 'go', 0, {}
    local opened_until = state.opened_until or 0
    if opened_until > 0 then
        local wait = closed_for(opened_until)
        if wait > 0 then return { 'open', wait, second }, booked end
        word, number = 'probe', now + claim_ms
    end
    if (state.silent_until or 0) > now then return { 'full', state.silent_until - now, second }, booked end

    local ramps = false
    if word == 'go' then
        local wait
        ramps, wait = ramping()
        if wait > 0 then return { 'full', wait, second }, booked end
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
                return { 'full', math.max(1, (one.at + WINDOW + 1) * 1000 - now), second }, booked
            end
        end
        return { 'full', WINDOW * 1000, second }, booked
    end

    local function book(field, value)
        booked[#booked + 1] = field
        booked[#booked + 1] = at(value)
    end
    local here = seconds[second] or { r = 0, t = 0 }
    if requests > 0 then book('r:' .. second, here.r + 1) end
    if tokens > 0 and wanted > 0 then book('t:' .. second, here.t + wanted) end
    if ramps then book('ramped', (state.ramped or 0) + 1) end
    if word == 'probe' then book('probe_until', number) end
    return { word, number, second }, booked
end

local before = replied_before(SENT, call)
if before then return before end
local reply, booked = decide()
if #booked == 0 then return reply end
before = first_reply(SENT, call, reply)
if before then return before end
if (state.kept_at or 0) + KEPT_ANEW_MS < now then
    booked[#booked + 1] = 'kept_at'
    booked[#booked + 1] = at(now)
    redis.call('HSET', STATE, unpack(booked))
    redis.call('PEXPIRE', STATE, KEEP_MS)
else
    redis.call('HSET', STATE, unpack(booked))
end
return reply
