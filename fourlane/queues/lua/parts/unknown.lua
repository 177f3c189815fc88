-- Needs keys. In UNKNOWN this stands before the name of a task that some worker did not know, with the time when a
-- worker began that knows it.
local KNOWN, LONGEST_PARKED = '\n', 30000 -- worker/run/unknown.py: pause_ms
local DEPLOY = 600000 -- for so long after such a begin workers that do not know it may be about to end

-- A pause while a deploy goes on: a second, longer where so many wait that trying them costs too much.
local function deploy_pause(milliseconds)
    return math.min(milliseconds, math.max(1000, redis.call('ZCARD', DELAYED)))
end
