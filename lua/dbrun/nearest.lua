--- The known name that is nearest to a mistyped one, for "did you mean ..." hints.
local M = {}

---Number of single-character edits (insert, delete, replace, swap of neighbours) between two words.
---@param a string
---@param b string
---@return integer
local function distance(a, b)
    local before, last = nil, {}
    for j = 0, #b do
        last[j] = j
    end
    for i = 1, #a do
        local row <const> = { [0] = i }
        for j = 1, #b do
            local cost <const> = a:byte(i) == b:byte(j) and 0 or 1
            local best = math.min(row[j - 1] + 1, last[j] + 1, last[j - 1] + cost)
            if before and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
                best = math.min(best, before[j - 2] + 1)
            end
            row[j] = best
        end
        before, last = last, row
    end
    return last[#b]
end

---The name in `names` that is nearest to `word`, or nil when none is similar enough.
---@param word string
---@param names string[]
---@param most? integer edits at most (default: a third of the word, at least one)
---@return string|nil
function M.find(word, names, most)
    if #word > 64 then
        return nil
    end
    local limit <const> = math.min(most or #word, math.max(1, #word // 3))
    local best, best_distance
    local lower <const> = word:lower()
    for _, name in ipairs(names) do
        if math.abs(#name - #word) <= limit then
            local d <const> = distance(lower, name:lower())
            if d <= limit and (not best_distance or d < best_distance) then
                best, best_distance = name, d
            end
        end
    end
    return best
end

return M
