-- Needs keys. The jobs that finished, as a turn's last arguments tell of them from `first` on: the number of those that
-- are done and their entries; then six for each other end: its outcome ("+" behind it: steps were recorded beside the
-- job's record), its entry, and what the outcome needs. Returns both.
local function read_finished(first)
    local done, ends, key = {}, {}, FIRST_OWN_KEY
    local others = first + 1 + tonumber(ARGV[first])
    for i = first + 1, others - 1 do done[#done + 1] = ARGV[i] end
    for i = others, #ARGV, 6 do
        local outcome, stepped = string.match(ARGV[i], '^(%l+)(%+?)$')
        local ended = { outcome = outcome, stepped = stepped == '+', entry = ARGV[i + 1] }
        ended.needs = { unpack(ARGV, i + 2, i + 5) }
        if outcome == 'result' or outcome == 'dead' and ended.needs[3] ~= '' then
            key = key + 1
            ended.key = KEYS[key]
        end
        ends[#ends + 1] = ended
    end
    return done, ends
end
