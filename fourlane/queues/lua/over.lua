-- Tell which jobs are over: done, dead, cancelled, forgotten. At one moment, for a job that moves is nowhere between two.
-- KEYS  the service's
-- ARGV  ids
-- Reply for each 1 when it is over, else 0
--@include keys

local found = redis.call('HMGET', JOBS, unpack(ARGV))
local over = {}
for i, id in ipairs(ARGV) do
    over[i] = (not found[i] or found[i] == '') and 1 or 0
    for _, dead in pairs(DEAD) do
        if over[i] == 0 and redis.call('ZSCORE', dead, id) then over[i] = 1 end
    end
end
return over
