-- Keep what running jobs say: pieces of output, log lines, progress. For those that wait and look, for a while.
-- KEYS  1 the worker's leased set, then the key of each item, and what the caller's connection sent last
-- ARGV  1 the call's number there, 2 milliseconds to keep it, 3 most pieces, 4 most log lines,
--       then for each item four: entry, kind ("text", "sealed", "end", "log", "progress"), the run that says it, the text
-- Reply empty; what a run says that lost its lease is dropped
--@include once

local LEASED = KEYS[1]
local ttl, most_pieces, most_lines = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

return once(KEYS[#KEYS], ARGV[1], function()
    local entries = {}
    for i = 5, #ARGV, 4 do entries[#entries + 1] = ARGV[i] end
    local held = redis.call('SMISMEMBER', LEASED, unpack(entries))
    for i, present in ipairs(held) do
        if present == 1 then
            local key, kind, run, text = KEYS[i + 1], ARGV[i * 4 + 2], ARGV[i * 4 + 3], ARGV[i * 4 + 4]
            if kind == 'progress' then
                redis.call('SET', key, text)
            elseif kind == 'log' then
                redis.call('RPUSH', key, text)
                redis.call('LTRIM', key, -most_lines, -1)
            else
                -- A run that begins anew says it all again.
                local last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)
                if last[1] and last[1][2][2] ~= run then redis.call('DEL', key) end
                if redis.call('XLEN', key) < most_pieces or kind == 'end' then
                    redis.call('XADD', key, '*', 'run', run, kind, text)
                end
            end
            redis.call('PEXPIRE', key, ttl)
        end
    end
end) or {}
