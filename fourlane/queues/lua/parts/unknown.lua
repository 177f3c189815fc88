-- Needs keys. In UNKNOWN this stands before the name of a task that some worker did not know, with the time when a
-- worker began that knows it.
local KNOWN, SHORTEST_PARKED, LONGEST_PARKED = '\n', 500, 30000 -- worker/unknown.py: pause_ms

-- From that time on a job's pauses grow anew.
local function shorter_pause(milliseconds, known_for)
    return math.min(milliseconds, math.max(SHORTEST_PARKED, math.floor(known_for / 2)))
end
