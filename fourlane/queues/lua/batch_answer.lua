-- Write what became of requests of a batch where their jobs find it; what was written before stays.
-- KEYS  1 the batch's members, then the tickets
-- ARGV  1 how long an answer waits for its job at most (ms), then for each ticket its id, the word and the answer
-- Reply for each whose it is, "" when its job has taken it before, or "-" for one that is not of this batch
local MEMBERS = KEYS[1]

local whose = {}
for i = 2, #KEYS do
    local id, word, answer = ARGV[3 * i - 4], ARGV[3 * i - 3], ARGV[3 * i - 2]
    if redis.call('SISMEMBER', MEMBERS, id) == 0 then
        whose[#whose + 1] = '-'
    else
        local about = redis.call('HGET', KEYS[i], 'about')
        if about and redis.call('HSETNX', KEYS[i], 'word', word) == 1 then
            redis.call('HSET', KEYS[i], 'answer', answer)
            redis.call('PEXPIRE', KEYS[i], ARGV[1])
        end
        whose[#whose + 1] = about or ''
    end
end
return whose
