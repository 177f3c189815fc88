-- Count a failure or a death of an event that comes straight from SQS.
-- KEYS  1 what is counted of this message, 2 what the caller's connection sent last
-- ARGV  1 the call's number there, 2 milliseconds to keep it, 3 what is counted, 4 how many more, 5 how far it counts,
--       6 why, "" for nothing
-- Reply empty
--@include once

return once(KEYS[2], ARGV[1], function()
    local count, most = tonumber(redis.call('HGET', KEYS[1], ARGV[3]) or 0), tonumber(ARGV[5])
    if count < most then
        count = math.min(count + tonumber(ARGV[4]), most)
        redis.call('HSET', KEYS[1], ARGV[3], count)
    end
    if ARGV[6] ~= '' then redis.call('HSET', KEYS[1], ARGV[3] .. '!', ARGV[6]) end
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end) or {}
