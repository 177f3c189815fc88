-- Tell an end that no run had: to who waits for the result, and by a job to the callbacks.
-- KEYS  1 the result's key, 2 jobs, 3 the tier's ready list, 4 the tier's wake key
-- ARGV  1 value for who waits, 2 milliseconds to keep it, 3 tier, 4 entry and 5 body of the job that tells; "" for none
--@include entries
redis.call('DEL', KEYS[1])
redis.call('RPUSH', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
if ARGV[4] ~= '' and redis.call('HSETNX', KEYS[2], id_of(ARGV[4]), ARGV[5]) == 1 then
    redis.call('RPUSH', KEYS[3], ARGV[4])
    redis.call('ZADD', KEYS[4], 0, ARGV[3])
end
return 1
