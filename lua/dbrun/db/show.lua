--- Rows and results as text, for print: bounded, never waits, calls no metamethod of the script, and does not depend on
--- the terminal.
local core <const> = require "dbrun.core"
local reserved <const> = require "dbrun.reserved"

local M = {}

local cell <const> = core.text.cell
local null <const> = core.null
local columns_of <const>, kind_of <const>, names_of <const> = core.rows.columns, core.rows.kind, core.rows.names

local ROWS <const> = 60    -- of a table
local COLUMNS <const> = 60 -- of the terminal, for a cell of a table
local LONG <const> = 100   -- of the terminal, for a string in a row
local BYTES <const> = 1000 -- of a string, however few columns they take
local ITEMS <const> = 20   -- of a nested table
local ADDED <const> = 20   -- keys that the script has added
local DEPTH <const> = 4

--- Types of numbers, which stand at the right: xid8 money cid xid numeric float8 float4 oid int4 int2 int8.
local NUMBERS <const> = { [5069] = true, [790] = true, [29] = true, [28] = true, [1700] = true, [701] = true,
    [700] = true, [26] = true, [23] = true, [21] = true, [20] = true }

--- The beginning of a text, which ends between two characters.
local function beginning(text)
    if #text <= BYTES then
        return text, false
    end
    local stop = BYTES
    while stop > BYTES - 3 and (text:byte(stop + 1) & 0xc0) == 0x80 do
        stop = stop - 1
    end
    return text:sub(1, stop), true
end

--- A text on one line: the printable text, the columns it takes, and whether it was cut.
local function one_line(text, most)
    local start <const>, long <const> = beginning(text)
    local shown <const>, width <const> = cell(start, most)
    local cut <const> = core.text.width(start) > most
    if long and not cut then
        local fits <const>, columns <const> = cell(start, most - 1)
        return fits .. "…", columns + 1, true
    end
    return shown, width, cut
end

local ESCAPES <const> = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function quoted(text)
    local start <const> = beginning(text)
    local shown, cut = core.text.cut(start, LONG), false
    if shown ~= start or #start < #text then
        shown, cut = core.text.cut(start, LONG - 1):gsub("…$", ""), true
    end
    shown = core.text.escape((shown:gsub('["\\\n\r\t]', ESCAPES)))
    return ('"%s"'):format(shown) .. (cut and ("… (%d bytes)"):format(#text) or "")
end

local function key_text(key)
    if type(key) ~= "string" then
        return ("[%s]"):format(type(key) == "number" and tostring(key) or type(key))
    elseif key:find "^[%a_][%w_]*$" and #key <= 64 and not reserved.is(key) then
        return key
    end
    return ("[%s]"):format(quoted(key))
end

--- Keys in a fixed order: numbers, then texts. At most 1,000 that are not in skip are read.
local function sorted_keys(t, skip)
    local keys <const>, seen = {}, 0
    for key in next, t do
        if not skip[key] then
            seen = seen + 1
            if seen > 1000 then break end
            keys[seen] = key
        end
    end
    table.sort(keys, function(a, b)
        local x <const>, y <const> = type(a), type(b)
        if x ~= y then return x < y end
        return (x == "number" or x == "string") and a < b
    end)
    return keys, seen > 1000
end

local value_text, row_text

local function list_text(t, depth, first)
    local out <const> = {}
    local n <const> = rawlen(t)
    for i = first or 1, n do
        if #out == ITEMS then
            out[#out + 1] = ("... %d more"):format(n - i + 1)
            break
        end
        out[#out + 1] = value_text(rawget(t, i), depth + 1)
    end
    return out
end

local function table_text(t, depth)
    if depth > DEPTH then
        return "{...}"
    elseif columns_of(t) and kind_of(t) ~= "result" then
        return row_text(t, depth)
    end
    local out <const> = list_text(t, depth)
    local skip <const> = kind_of(t) == "result" and { columns = true, command = true, affected = true } or {}
    for i = 1, rawlen(t) > 1000 and 0 or rawlen(t) do skip[i] = true end
    if rawlen(t) > 1000 then -- a long list; other keys are not searched for
        return "{" .. table.concat(out, ", ") .. "}"
    end
    local keys <const>, more <const> = sorted_keys(t, skip)
    for i, key in ipairs(keys) do
        if i > ITEMS then break end
        out[#out + 1] = key_text(key) .. " = " .. value_text(rawget(t, key), depth + 1)
    end
    if more or #keys > ITEMS then out[#out + 1] = "..." end
    return "{" .. table.concat(out, ", ") .. "}"
end

function value_text(v, depth)
    local t <const> = type(v)
    if v == nil or rawequal(v, null) then
        return "NULL"
    elseif t == "string" then
        return quoted(v)
    elseif t == "number" or t == "boolean" then
        return tostring(v)
    elseif t == "table" then
        return table_text(v, depth)
    end
    return ("<%s>"):format(t)
end

--- Adds the keys that are not columns.
local function add_other_keys(out, t, depth, skip)
    local keys <const>, more <const> = sorted_keys(t, skip)
    for i, key in ipairs(keys) do
        if i > ADDED then break end
        out[#out + 1] = key_text(key) .. " = " .. value_text(rawget(t, key), depth + 1)
    end
    if more or #keys > ADDED then out[#out + 1] = "..." end
end

function row_text(t, depth)
    local out <const>, skip <const> = {}, {}
    local by_position <const> = kind_of(t) == "list"
    if by_position then
        local columns <const> = columns_of(t)
        for i = 1, rawlen(t) do
            local column <const> = type(columns) == "table" and rawget(columns, i)
            local name <const> = type(column) == "table" and rawget(column, "name")
            local text <const> = value_text(rawget(t, i), depth + 1)
            out[i] = type(name) == "string" and key_text(name) .. " = " .. text or text
            skip[i] = true
            if i == 2000 then break end
        end
    else
        for i, name in ipairs(names_of(t)) do
            out[i] = key_text(name) .. " = " .. value_text(rawget(t, name), depth + 1)
            skip[name] = true
        end
    end
    add_other_keys(out, t, depth, skip)
    return "{" .. table.concat(out, ", ") .. "}"
end

-- ---- results ---------------------------------------------------------------------------------------

local COUNTED <const> = { INSERT = true, UPDATE = true, DELETE = true, MERGE = true, COPY = true, MOVE = true }

local function plural(n, word)
    return ("%d %s%s"):format(n, word, n == 1 and "" or "s")
end

--- "UPDATE: 3 rows affected"; "" for a statement that only reads, or a result that the script has changed.
local function command_text(t)
    local command <const>, affected <const> = rawget(t, "command"), rawget(t, "affected")
    if type(command) ~= "string" then
        return ""
    elseif COUNTED[command] and math.type(affected) == "integer" then
        return ("%s: %s affected"):format(command, plural(affected, "row"))
    end
    return (one_line(command, COLUMNS))
end

--- The columns of the table: {head=, key=, right=}. By position when the rows are.
local function heads_of(t, by_position, shown)
    local heads <const>, skip <const>, columns <const> = {}, {}, columns_of(t)
    for i = 1, type(columns) == "table" and rawlen(columns) or 0 do
        local column <const> = rawget(columns, i)
        local name <const> = type(column) == "table" and rawget(column, "name")
        if type(name) == "string" then
            if by_position or not skip[name] then
                heads[#heads + 1] = { name = name, key = by_position and i or name }
                skip[name] = heads[#heads]
            end
            -- Of columns with one name, the value of the last one counts.
            (skip[name] or heads[#heads]).right = NUMBERS[rawget(column, "oid")]
        end
        if by_position then skip[i] = true end
    end
    local hidden <const> = by_position and 0 or type(columns) == "table" and rawlen(columns) - #heads or 0
    local added, more = 0, false
    for i = 1, shown do
        local keys <const>, rest <const> = sorted_keys(rawget(t, i), skip)
        more = more or rest
        for _, key in ipairs(keys) do
            if added < ADDED and not skip[key] then
                added, skip[key] = added + 1, true
                heads[#heads + 1] = { name = type(key) == "string" and key or key_text(key), key = key }
            end
            more = more or not skip[key]
        end
    end
    return heads, hidden, more
end

local function cell_text(v)
    if type(v) == "string" then
        return one_line(v, COLUMNS)
    end
    return one_line(value_text(v, 1), COLUMNS)
end

local function padded(text, width, columns, right)
    local blanks <const> = (" "):rep(columns - width)
    return right and blanks .. text or text .. blanks
end

local function line_of(cells, heads)
    local out <const> = {}
    for i, head in ipairs(heads) do
        out[i] = " " .. padded(cells[i].text, cells[i].width, head.columns, head.right) .. " "
    end
    return (table.concat(out, "|"):gsub(" +$", ""))
end

local function footer(t, n, shown, cut, hidden, more)
    local rows <const> = plural(n, "row")
    local parts <const> = { n == shown and rows or ("%s, the first %d shown"):format(rows, shown) }
    if cut > 0 then
        parts[#parts + 1] = ("%s cut at %d columns"):format(plural(cut, "cell"), COLUMNS)
    end
    if hidden > 0 then
        parts[#parts + 1] = ("%s of equal names not in the rows: read them with { positional = true }"):format(
            plural(hidden, "column"))
    end
    if more then parts[#parts + 1] = "keys left out" end
    local command <const> = command_text(t)
    if command:find ":" then parts[#parts + 1] = command end
    return "(" .. table.concat(parts, "; ") .. ")"
end

local function rule_of(heads)
    local rule <const> = {}
    for i, head in ipairs(heads) do
        rule[i] = ("-"):rep(head.columns + 2)
    end
    return table.concat(rule, "+")
end

local function grid(t, shown)
    local first <const> = rawget(t, 1)
    local by_position <const> = first ~= nil and kind_of(first) == "list"
    local heads <const>, hidden <const>, more <const> = heads_of(t, by_position, shown)
    local names <const>, body <const>, cut = {}, {}, 0
    for c, head in ipairs(heads) do
        local text <const>, width <const> = one_line(head.name, COLUMNS)
        names[c], head.columns = { text = text, width = width }, width
    end
    for i = 1, shown do
        local row <const>, cells <const> = rawget(t, i), {}
        for c, head in ipairs(heads) do
            local v <const> = rawget(row, head.key)
            local text <const>, width <const>, short <const> = cell_text(v)
            cells[c] = { text = text, width = width }
            cut = cut + (short and 1 or 0)
            head.columns = math.max(head.columns, width)
            head.right = head.right or type(v) == "number"
        end
        body[i] = cells
    end
    local lines <const> = { line_of(names, heads), rule_of(heads) }
    for i, cells in ipairs(body) do lines[i + 2] = line_of(cells, heads) end
    lines[#lines + 1] = footer(t, rawlen(t), shown, cut, hidden, more)
    return table.concat(lines, "\n")
end

local function result_text(t)
    local columns <const> = columns_of(t)
    if rawlen(t) == 0 and (type(columns) ~= "table" or rawlen(columns) == 0) then
        local text <const> = command_text(t)
        return text ~= "" and text or "(no rows)"
    end
    local shown = math.min(rawlen(t), ROWS)
    for i = 1, shown do
        if type(rawget(t, i)) ~= "table" then
            return table_text(t, 1) -- the script has replaced it
        end
    end
    return grid(t, shown)
end

---A row on one line, a result as a table.
---@param t table
---@return string
function M.text(t)
    return kind_of(t) == "result" and result_text(t) or row_text(t, 1)
end

return M
