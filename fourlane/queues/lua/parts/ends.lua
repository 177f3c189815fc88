-- Needs keys. The jobs that finished, as a turn's last arguments tell of them from `first` on: the number of those that
-- are done and their entries; then six for each other end: its outcome ("+" behind it: steps were recorded beside the
-- job's record), its entry, and what the outcome needs. Returns both, and the entries of all.
local function read_finished(first)
    local done, ends, finished, key = {}, {}, {}, FIRST_OWN_KEY
    local others = first + 1 + tonumber(ARGV[first])
    for i = first + 1, others - 1 do done[i - first], finished[i - first] = ARGV[i], ARGV[i] end
    for i = others, #ARGV, 6 do
        local outcome, entry = ARGV[i], ARGV[i + 1]
        local stepped = string.sub(outcome, -1) == '+'
        if stepped then outcome = string.sub(outcome, 1, -2) end
        local has_value = outcome == 'result' or outcome == 'dead' and ARGV[i + 4] ~= ''
        if has_value then key = key + 1 end
        ends[#ends + 1] = {
            outcome = outcome, stepped = stepped, entry = entry, key = has_value and KEYS[key], needs_from = i + 2,
        }
        finished[#finished + 1] = entry
    end
    return done, ends, finished
end
