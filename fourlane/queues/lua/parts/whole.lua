-- A whole number as text: Lua writes large ones as powers of ten.
local function whole(value) return string.format('%.0f', value) end
