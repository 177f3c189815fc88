-- Needs keys, batches, refusals, outcomes. Settle what ended otherwise than plainly done, each by its outcome.

-- First into its new place, then out of the old one: an error between the two loses nothing.
local function settle_ends(ends, done, held, settled)
    local seen = {} -- an entry ends once, however often it is among those that finished
    for _, entry in ipairs(done) do seen[entry] = true end
    local others, refused, faults = settled.others, settled.refused, settled.faults
    for i, ended in ipairs(ends) do
        local entry = ended.entry
        if held[#done + i] and not seen[entry] then
            seen[entry] = true
            local fault = write_end(ended)
            if not fault then
                others[#others + 1] = entry
                settled.stay[entry] = not was_marked() and STAYS[ended.outcome] or nil
                settled.any_cancelled = settled.any_cancelled or was_marked()
            elseif is_of_the_server(fault) then
                settled.no_more = fault
                break
            else
                faults[#faults + 1] = entry
                faults[#faults + 1] = words_of(fault)
            end
        else
            refused[#refused + 1] = entry
        end
    end
    if #others > 0 then all('SREM', LEASED, others) end
    settled.delayed, settled.dropped = any_delayed, dropped_letters
end
