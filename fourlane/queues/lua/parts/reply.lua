-- What a call told, by name: a list of each name and what it stands for. Empty lists and what is nil are left out.
local function reply(told)
    local words = {}
    for name, value in pairs(told) do
        if type(value) ~= 'table' or #value > 0 then
            words[#words + 1] = name
            words[#words + 1] = value
        end
    end
    return words
end
