-- Note what an operator did; the newest records are kept.
-- KEYS  1 audit
-- ARGV  1 the record, 2 how many to keep
-- An earlier call's reply may have been lost; a record tells its time, to the millisecond.
for _, noted in ipairs(redis.call('LRANGE', KEYS[1], 0, 19)) do
    if noted == ARGV[1] then return 1 end
end
redis.call('LPUSH', KEYS[1], ARGV[1])
redis.call('LTRIM', KEYS[1], 0, ARGV[2] - 1)
return 1
