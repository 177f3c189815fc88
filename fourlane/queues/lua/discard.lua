-- Drop dead letters for good.
-- KEYS  the service's
-- ARGV  ids
-- Reply the number dropped
--@include keys
--@include entries
--@include batches
--@include forget

local dropped = 0
for i = 1, #ARGV do
    local tier = tier_of(ARGV[i])
    if DEAD[tier] and redis.call('ZREM', DEAD[tier], ARGV[i]) == 1 then
        redis.call('HDEL', REASONS, ARGV[i])
        forget({ ARGV[i] .. '|r' })
        redis.call('HINCRBY', STATS, 'discarded:' .. tier, 1)
        dropped = dropped + 1
    end
end
return dropped
