-- Tell who waits for a result of an end that brought none; `value` is what queues/ended.py makes for them.
local function tell_waiters(result, value, keep_ms)
    redis.call('DEL', result)
    redis.call('RPUSH', result, value)
    redis.call('PEXPIRE', result, keep_ms)
end
