--- The line numbers of the elements and keys of the table that a Lua file returns, for errors about them. They are read
--- from the text: a file that computes its table has none.
local M = {}

---The end of the token at `at`, and its text: "''" for a string, nil for a comment or a space.
local function token_at(text, at)
    local comment <const> = text:match("^%-%-()", at)
    local level <const>, long <const> = text:match("^%[(=*)%[()", comment or at)
    if level then
        local past <const> = text:match("%]" .. level .. "%]()", long)
        return past or #text + 1, not comment and "''" or nil
    elseif comment then
        return text:match("^[^\n]*()", comment)
    end
    local mark <const> = text:match("^[\"']", at)
    if mark then
        local past = at + 1
        while past <= #text and text:sub(past, past) ~= mark do
            past = past + (text:sub(past, past) == "\\" and 2 or 1)
        end
        return past + 1, "''"
    end
    local space <const> = text:match("^%s+()", at)
    if space then
        return space
    end
    local word <const>, past <const> = text:match("^([%w_]+)()", at)
    if word then
        return past, word
    elseif text:find("^==", at) then
        return at + 2, "=="
    end
    return at + 1, text:sub(at, at)
end

---@class dbrun.Places
---@field elements table<integer, integer> the line of each element of the list
---@field keys table<integer, table<string, integer>> the lines of the keys: of the table itself at 0, of element i at i

---@param text string
---@return dbrun.Places
function M.of(text)
    ---@type dbrun.Places
    local places = { elements = {}, keys = { [0] = {} } }
    local at, line, depth, round, element = 1, 1, 0, 0, 1
    local last, before -- the last two tokens
    while at <= #text do
        local past <const>, token <const> = token_at(text, at)
        if token == "{" or token == "(" then
            if token == "{" and depth == 0 and last == "return" then
                places, element = { elements = {}, keys = { [0] = {} } }, 1
            end
            depth, round = depth + (token == "{" and 1 or 0), round + (token == "(" and 1 or 0)
        elseif token == "}" or token == ")" then
            depth, round = depth - (token == "}" and 1 or 0), round - (token == ")" and 1 or 0)
        elseif (token == "," or token == ";") and depth == 1 and round == 0 then
            element = element + 1
        elseif token == "=" and depth <= 2 and (before == "{" or before == "," or before == ";") then
            local of <const> = depth == 2 and element or 0
            places.keys[of] = places.keys[of] or {}
            places.keys[of][last] = places.keys[of][last] or line
        end
        local begins <const> = depth > 1 or depth == 1 and token ~= "{" and token ~= "," and token ~= ";"
        if token and begins then
            places.elements[element] = places.elements[element] or line
        end
        line = line + select(2, text:sub(at, past - 1):gsub("\n", ""))
        at = past
        if token then
            before, last = last, token
        end
    end
    return places
end

---The line of element `i` (0: the table itself), or of a key in it.
---@param text string
---@param i integer
---@param key? any
---@return integer? line nil when it is not known
function M.line(text, i, key)
    local places <const> = M.of(text)
    return key ~= nil and (places.keys[i] or {})[key] or places.elements[i]
end

---"file:line" of element `i` (0: the table itself), or of a key in it; the file alone where the line is not known.
---@param file string
---@param i integer
---@param key? any
---@return string
function M.name(file, i, key)
    local handle <close> = io.open(file, "rb")
    local text <const> = handle and handle:read "a"
    local line <const> = text and M.line(text, i, key)
    return line and ("%s:%d"):format(file, line) or file
end

return M
