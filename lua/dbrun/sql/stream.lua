--- Which COPY statements send or read rows over the connection, rather than files of the server, and in what form.
local scan <const> = require "dbrun.core".sql.scan

local M = {}

local BETWEEN <const> = { blank = true, comment = true }

--- The server takes either word for either direction.
local NAMES <const> = { stdin = true, stdout = true }

---The stream that a statement uses: COPY ... FROM STDIN, COPY ... TO STDOUT.
---@param sql string one statement
---@return "in"|"out"|nil stream nil: it is no such COPY
function M.of(sql)
    local depth, before, words = 0, nil, 0
    for behind, kind, from in scan, sql, 1 do
        local text <const> = (kind == "word" or kind == "sign") and sql:sub(from, behind - 1):lower()
        if kind == "word" then
            words = words + 1
            if words == 1 and text ~= "copy" then return nil end
            if depth == 0 and NAMES[text] and before == "from" then return "in" end
            if depth == 0 and NAMES[text] and before == "to" then return "out" end
            before = text
        elseif not BETWEEN[kind] then
            if words == 0 then return nil end
            if kind == "sign" then depth = depth + (text == "(" and 1 or text == ")" and -1 or 0) end
            before = nil
        end
    end
end

--- Encodings in which a byte of a multi-byte character can look like a backslash.
local EMBEDS <const> = {}
for name in ("sjis shiftjis mskanji win932 windows932 shiftjis2004 big5 win950 windows950 gbk win936 windows936 uhc "
    .. "win949 windows949 gb18030 johab"):gmatch "%S+" do
    EMBEDS[name] = true
end

--- The value of a word, a quoted name or a string; "": written in a form that is not parsed here.
local function value_of(kind, text)
    if kind == "word" then return text:lower() end
    local inner <const> = (kind == "string" or kind == "quoted") and text:match "^(['\"]).*%1$"
    return inner and text:sub(2, -2):gsub(inner .. inner, inner) or ""
end

--- The options of a COPY ... FROM STDIN, of either syntax.
local function options_of(sql)
    local found <const>, depth, name = { format = "text" }, 0, nil
    local before, behind_stdin
    for behind, kind, from in scan, sql, 1 do
        local text <const> = sql:sub(from, behind - 1)
        local value <const> = not BETWEEN[kind] and kind ~= "sign" and value_of(kind, text)
        local word <const> = kind == "word" and value
        if kind == "sign" then
            depth = depth + (text == "(" and 1 or text == ")" and -1 or 0)
        elseif not behind_stdin then
            if word == "binary" and before == "copy" then found.format = word end
            behind_stdin = NAMES[word] and depth == 0
            before = value or before
        elseif word == "where" and depth == 0 then
            break
        elseif value and depth < 2 and word ~= "as" then
            if name then
                found[name], name = value, nil
            elseif depth == 0 and (word == "csv" or word == "binary") then
                found.format = word
            elseif word == "format" or word == "quote" or word == "escape" or word == "encoding" then
                name = word
            end
        end
    end
    return found
end

---How to look for the end marker in the data of a COPY ... FROM STDIN.
---@param sql string
---@return boolean|nil csv false: text; nil: there is no marker, or the format is unknown
---@return string? quote
---@return string? escape
function M.form(sql)
    local found <const> = options_of(sql)
    local csv <const>, quote <const>, escape <const> = found.format == "csv", found.quote, found.escape
    local encoding <const> = found.encoding or "utf8"
    local embeds <const> = encoding == "" or EMBEDS[encoding:gsub("%W", ""):lower()]
    if not csv and (found.format ~= "text" or embeds) then return nil end
    if csv and (#(quote or '"') ~= 1 or #(escape or '"') ~= 1 or embeds and (quote or escape)) then return nil end
    return csv, quote, escape
end

return M
