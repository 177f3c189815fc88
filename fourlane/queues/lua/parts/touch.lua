-- What was asked of Redis last: for words on a key of another type.
local touched = { key = '', type = '' }

local function touch(key, its_type)
    touched.key, touched.type = key, its_type
end
