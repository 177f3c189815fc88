-- Needs keys, entries, forget, telling. A running job that was cancelled is marked in CANCELS by the time of that. Half a
-- millisecond more says that callbacks are to hear of its end. Whoever ends it otherwise than its run forgets it.
local CALLS_MS = 0.5

local function mark_cancelled(id, calls, now)
    redis.call('ZADD', CANCELS, string.format('%.1f', now + (calls and CALLS_MS or 0)), id)
end

-- Its mark, once, when the running job was cancelled meanwhile: it must not come back.
local function was_cancelled(id)
    local mark = redis.call('ZSCORE', CANCELS, id)
    if mark then redis.call('ZREM', CANCELS, id) end
    return mark
end

local function forget_cancelled(entry, mark, now)
    local id = id_of(entry)
    local body = tonumber(mark) % 1 == CALLS_MS and redis.call('HGET', JOBS, id)
    if body then
        -- As queues/ended.py has it: body_of_cancelled.
        local words = { id, 'it was cancelled while it ran', true, body }
        send_telling(id, cjson.encode({ 'fourlane.ended', words }), now)
    end
    forget({ with_record(entry) })
end
