-- Count a failure or a death of an event that comes straight from SQS.
-- KEYS  1 what is counted of this message
-- ARGV  1 milliseconds to keep it, 2 what is counted, 3 how many more, 4 how far it counts, 5 why, "" for nothing
-- Reply the count
local count, most = tonumber(redis.call('HGET', KEYS[1], ARGV[2]) or 0), tonumber(ARGV[4])
if count < most then
    count = math.min(count + tonumber(ARGV[3]), most)
    redis.call('HSET', KEYS[1], ARGV[2], count)
end
if ARGV[5] ~= '' then redis.call('HSET', KEYS[1], ARGV[2] .. '!', ARGV[5]) end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return count
