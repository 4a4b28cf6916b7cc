--- Patterns for names, as psql has them: `notes`, `not*`, `public.*`, `"Quoted.Name"`, `a|b`, `shop.public.notes`.
---
--- Letters outside double quotes are converted to lower case, `*` is any text, `?` any character, a dot ends a schema's
--- name. Other regular expressions work too. Within quotes every character is literal.
local errors <const> = require "dbrun.error"

local M = {}

---@class dbrun.prompt.Pattern
---@field text string as it was typed
---@field schema? string regular expression for the server; nil: no schema was given
---@field name? string regular expression; nil: any name
---@field plain? string the name, where the pattern can mean only one
---@field plain_schema? string likewise
---@field database? string

local SPECIAL <const> = "[|*+?()%[%]{}.^$\\]"

--- The parts between the dots, each { regex, plain name or nil }.
local function parts_of(text)
    local parts, regex, plain, single = {}, {}, {}, true
    local quoted, i = false, 1
    local function finish()
        parts[#parts + 1] = { table.concat(regex), single and table.concat(plain) or nil }
        regex, plain, single = {}, {}, true
    end
    while i <= #text do
        local c = text:sub(i, i)
        if c == '"' and quoted and text:sub(i + 1, i + 1) == '"' then
            regex[#regex + 1], plain[#plain + 1] = '"', '"'
            i = i + 1
        elseif c == '"' then
            quoted = not quoted
        elseif quoted then
            regex[#regex + 1], plain[#plain + 1] = c:find(SPECIAL) and "\\" .. c or c, c
        elseif c == "." then
            finish()
        else
            single = single and (c == "$" or not c:find(SPECIAL))
            c = c:lower()
            plain[#plain + 1] = c
            regex[#regex + 1] = c == "*" and ".*" or c == "?" and "." or c == "$" and "\\$" or c
        end
        i = i + 1
    end
    finish()
    return parts, quoted
end

--- The regular expression of a whole name; nil for one that matches every name.
local function whole(part)
    if not part or part[1] == ".*" then return nil end
    return "^(" .. part[1] .. ")$"
end

---Reads a pattern.
---@param text string
---@return dbrun.prompt.Pattern
---Raises an error of kind `usage` for a quote that is not closed, and for more than two dots.
function M.read(text)
    local parts <const>, open <const> = parts_of(text)
    if open then
        errors.fail("usage", ("the name %s has a double quote that is not closed"):format(text),
            "Put the name into a pair of quotes: \"Name\". A quote in a name is written twice.")
    end
    if #parts > 3 then
        errors.fail("usage", ("%s has too many dots"):format(text),
            "A name is table, schema.table or database.schema.table; a dot in a name is quoted: \"a.b\".")
    end
    local name <const>, schema <const> = parts[#parts], parts[#parts - 1]
    if name[1] == "" and #parts == 1 then
        errors.fail("usage", "the name is empty", "Without a name the command lists all.")
    end
    if name[1] == "" then name[1], name[2] = ".*", nil end -- `public.` is all of public
    return {
        text = text, name = whole(name), plain = name[2],
        schema = schema and (whole(schema) or ".*"), plain_schema = schema and schema[2],
        database = #parts == 3 and parts[1][2] or nil,
    }
end

---The patterns of a command's argument: texts separated by blanks outside quotes. A final `;` is dropped, as in psql.
---@param argument string
---@return string[]
function M.split(argument)
    local words, word, quoted = {}, {}, false
    argument = argument:gsub("[%s;]+$", "")
    for c in argument:gmatch "." do
        if c == '"' then quoted = not quoted end
        if not quoted and c:find "%s" then
            if #word > 0 then words[#words + 1], word = table.concat(word), {} end
        else
            word[#word + 1] = c
        end
    end
    if #word > 0 then words[#words + 1] = table.concat(word) end
    return words
end

---Quotes an identifier where SQL needs that: `notes`, but `"Notes"` and `"order"`.
---@param name string
---@param reserved? table<string, any> words that are quoted, too
---@return string
function M.quote(name, reserved)
    if name:find "^[a-z_][a-z0-9_$]*$" and not (reserved and reserved[name]) then return name end
    return '"' .. name:gsub('"', '""') .. '"'
end

return M
