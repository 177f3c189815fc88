-- Read and write the recorded steps of jobs of one worker. They lie beside the jobs' records, so that forgetting a
-- job with a record forgets them too.
-- KEYS  1 records, 2 the worker's leased set
-- ARGV  1 how many to read, their ids, then for each to write: its entry, what to keep
-- Reply what was read, then for each written 1, or 0: the lease is lost, nothing was written
local RECORDS, LEASED = KEYS[1], KEYS[2]
local reads = tonumber(ARGV[1])
--@include entries

local found, fields, entries = {}, {}, {}
for i = 2, reads + 1 do fields[#fields + 1] = ARGV[i] .. '|s' end
if #fields > 0 then found = redis.call('HMGET', RECORDS, unpack(fields)) end

for i = reads + 2, #ARGV, 2 do entries[#entries + 1] = ARGV[i] end
local written = {}
if #entries > 0 then
    written = redis.call('SMISMEMBER', LEASED, unpack(entries))
    local pairs_to_write = {}
    for i, held in ipairs(written) do
        if held == 1 then
            pairs_to_write[#pairs_to_write + 1] = id_of(entries[i]) .. '|s'
            pairs_to_write[#pairs_to_write + 1] = ARGV[reads + 1 + 2 * i]
        end
    end
    if #pairs_to_write > 0 then redis.call('HSET', RECORDS, unpack(pairs_to_write)) end
end
return { found, written }
