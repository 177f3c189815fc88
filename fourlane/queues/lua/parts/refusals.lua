-- What Redis says no to whatever the key: it has then written nothing, for it says so at a script's first write. (Of
-- rights that are lacking it may say so later.) No job is to blame for it, and the same call may succeed a moment later.
local OF_THE_SERVER = {
    'READONLY', 'MISCONF', 'NOREPLICAS', 'OOM', 'NOPERM',
    'ACL failure in script', "The user executing the script can't", -- the last two in the words of Valkey and of Redis
}

local function words_of(fault)
    return type(fault) == 'table' and fault.err or tostring(fault)
end

local function is_of_the_server(fault)
    local text = words_of(fault)
    for _, words in ipairs(OF_THE_SERVER) do
        if string.find(text, words, 1, true) then return true end
    end
    return false
end

-- What pcall caught, as a reply: a right that we lack keeps Redis's words, a wrong type gets clearer ones.
local function refusal(fault, key, its_type)
    local text = words_of(fault)
    if string.find(text, 'WRONGTYPE', 1, true) then text = 'WRONGTYPE ' .. key .. ' is not a ' .. its_type end
    return redis.error_reply(text)
end
