-- The accounts of this call by their keys: a reservation of an earlier day or month holds something in others.
local function accounts(keys, first)
    local found = {}
    for i = first, first + 3 do found[keys[i]] = true end
    return found
end

-- Undo what a reservation holds in the accounts of this call.
local function give_back(reservation, account_of)
    if tonumber(reservation.nano) == 0 then return end
    for _, held in ipairs(reservation.held or {}) do
        if account_of[held[1]] then
            redis.call('HINCRBY', held[1], 'held:' .. held[2], whole(0 - tonumber(reservation.nano)))
        end
    end
end
