-- Needs keys. Count jobs that are done: `words` are such as "7;1:530,2:7 8;1:3", each with a number that is higher than
-- the one before. `counted` knows the last one for a while: what a call told whose reply was lost comes again.
local COUNTED_MS = 90000

local function count_done(words, counted)
    if words == '' then return end
    local newest = string.match(words, '(%d+);%S*$')
    local before = tonumber(redis.call('SET', counted, newest, 'PX', COUNTED_MS, 'GET') or 0)
    for number, by_tier in string.gmatch(words, '(%d+);(%S+)') do
        if tonumber(number) > before then
            for tier, count in string.gmatch(by_tier, '(%d):(%d+)') do
                redis.call('HINCRBY', STATS, 'done:' .. tier, count)
            end
        end
    end
end
