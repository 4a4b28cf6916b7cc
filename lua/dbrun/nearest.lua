--- The known name that is nearest to a mistyped one, for "did you mean" hints.
local M = {}

--- An ASCII byte in lower case.
local function lower(byte)
    return byte >= 65 and byte <= 90 and byte + 32 or byte
end

--- Rows of the distance matrix. They are reused for each name, so that an error that compares hundreds of names does
--- not make thousands of tables.
local function distances()
    local before, last, row = {}, {}, {}

    ---Number of single-character edits (insert, delete, replace, swap of neighbours) between two words, ignoring case.
    ---@param a string
    ---@param b string
    ---@return integer
    return function(a, b)
        for j = 0, #b do
            last[j] = j
        end
        for i = 1, #a do
            local ours <const> = lower(a:byte(i))
            row[0] = i
            for j = 1, #b do
                local theirs <const> = lower(b:byte(j))
                local best = math.min(row[j - 1] + 1, last[j] + 1, last[j - 1] + (ours == theirs and 0 or 1))
                if i > 1 and j > 1 and ours == lower(b:byte(j - 1)) and lower(a:byte(i - 1)) == theirs then
                    best = math.min(best, before[j - 2] + 1)
                end
                row[j] = best
            end
            before, last, row = last, row, before
        end
        return last[#b]
    end
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
    local distance <const> = distances()
    for _, name in ipairs(names) do
        if math.abs(#name - #word) <= limit then
            local d <const> = distance(word, name)
            if d <= limit and (not best_distance or d < best_distance) then
                best, best_distance = name, d
            end
        end
    end
    return best
end

return M
