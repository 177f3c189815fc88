-- Needs keys, batches, forget. Settle what is plainly done.

-- Which of those that finished it holds. A lone one that is done leaves its leases in the same command.
local function find_held(finished, alone)
    if alone then return { redis.call('SREM', LEASED, finished[1]) == 1 } end
    local held = {}
    each_piece(finished, function(first, last)
        for i, present in ipairs(redis.call('SMISMEMBER', LEASED, unpack(finished, first, last))) do
            held[first + i - 1] = present == 1
        end
    end)
    return held
end

local function settle_done(done, held, alone, settled)
    for i, entry in ipairs(done) do
        local list = held[i] and settled.done or settled.refused
        list[#list + 1] = entry
    end
    if #settled.done == 0 then return end
    forget(settled.done)
    if not alone then all('SREM', LEASED, settled.done) end
end
