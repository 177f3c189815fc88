-- Write the pauses and limits of a service; an empty text removes them.
-- KEYS  the service's, then the leased sets of its workers
-- ARGV  1 the text that was read before, 2 the new text (JSON: tier → paused, rate, per_ms, burst, concurrency),
--       then those workers' names
-- Reply 1 written, 0 somebody else changed it, or another worker came meanwhile
--@include keys
--@include entries
--@include wake
--@include leases

if (redis.call('HGET', JOBS, CONTROL) or '') ~= ARGV[1] then return 0 end
if not knows_all_workers(3) then return 0 end
if ARGV[2] == '' then
    redis.call('HDEL', JOBS, CONTROL)
else
    redis.call('HSET', JOBS, CONTROL, ARGV[2])
end
for tier in pairs(SLOTS) do redis.call('DEL', SLOTS[tier]) end
if ARGV[2] ~= '' then
    -- What runs now holds its slots from now on.
    for i = FIRST_OWN_KEY, #KEYS do
        for _, entry in ipairs(redis.call('SMEMBERS', KEYS[i])) do
            redis.call('SADD', SLOTS[tier_of(entry)], id_of(entry))
        end
    end
end
wake_all()
return 1
