-- Needs keys. True, once, when the running job was cancelled meanwhile: it must not come back.
local function was_cancelled(id)
    return redis.call('ZREM', CANCELS, id) == 1
end
