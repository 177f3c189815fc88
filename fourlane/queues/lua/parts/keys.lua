-- The keys of one service, in the order of queues/keys.py: ServiceKeys.
local function by_tier(first)
    return { ['0'] = KEYS[first], ['1'] = KEYS[first + 1], ['2'] = KEYS[first + 2], ['3'] = KEYS[first + 3] }
end
local JOBS, READY, DELAYED, WORKERS = KEYS[1], by_tier(2), KEYS[6], KEYS[7]
local WAKE, NEWS, WATCH = by_tier(8), KEYS[12], KEYS[13]
local RECORDS, CRASHES, REASONS, DEAD = KEYS[14], KEYS[15], KEYS[16], by_tier(17)
local SLOTS, BUCKETS, CANCELS, STATS, UNKNOWN = by_tier(21), KEYS[25], KEYS[26], KEYS[27], KEYS[28]
local LINES, PARKED = KEYS[29], KEYS[30]
local FIRST_OWN_KEY = 31
local CONTROL = '!' -- the field of JOBS that holds pauses and limits; no job's id begins with it
