-- The key asked of last, and what it should be: for words on a key of another type.
local touched, its_type
