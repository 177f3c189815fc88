-- Needs time. Redis's time, asked for once in a call, and only when it is needed.
local now

local function clock()
    now = now or now_ms()
    return now
end
