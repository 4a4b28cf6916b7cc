--- Reads `.env` files. Everything in them is literal: no command substitution, no expansion.
---
---     KEY=value               spaces around "=" and at the end are dropped
---     export KEY=value        the same
---     KEY=pa#ss 'word         a "#" after a space begins a comment; quotes inside are characters
---     KEY='any $text\ # here' up to the next single quote, every character as it stands
---     KEY="say \"hi\"\n"      \n \r \t \" \\ \$ \` are escapes, any other backslash is a character
---     # a comment             blank lines are ignored too
---
--- A quoted value may go over several lines. LF and CRLF end a line; a byte order mark is skipped. When a key is given
--- twice the last one counts (see `duplicates`). Errors are of kind `config`; they name file and line, and never show
--- the text, which may be a secret.
local args = require "dbrun.args"
local errors = require "dbrun.error"

local M = {}

local MAX_FILE <const> = 1024 * 1024
local MAX_LINE <const> = 64 * 1024

local ESCAPES <const> = {
    n = "\n", r = "\r", t = "\t", ['"'] = '"', ["\\"] = "\\", ["$"] = "$", ["`"] = "`",
}

---@class dbrun.DotenvPlace
---@field key string
---@field line integer
---@field first? integer the line of the earlier definition (duplicates only)

---@class dbrun.Dotenv
---@field name string the file as errors call it
---@field values table<string, string>
---@field lines table<string, integer> where each key stands
---@field order string[] the keys in the order of their first definition
---@field duplicates dbrun.DotenvPlace[] keys given more than once
---@field expansions dbrun.DotenvPlace[] values with `${NAME}` or `$(...)` outside of single quotes: taken literally

local function fail(name, line, message, hint)
    errors.fail("config", ("%s line %d: %s"):format(name, line, message), hint)
end

local function line_of(text, pos)
    local _, newlines = text:sub(1, pos - 1):gsub("\n", "")
    return newlines + 1
end

---Refuses text that is not UTF-8 before anything is read from it, and drops the byte order mark.
local function check_text(text, name)
    if #text > MAX_FILE then
        errors.fail("config", ("%s is larger than %d bytes"):format(name, MAX_FILE),
            "an environment file holds KEY=VALUE lines; is this the right file?")
    end
    if text:find "^\xFF\xFE" or text:find "^\xFE\xFF" then
        fail(name, 1, "the file is UTF-16", "save it as UTF-8")
    end
    if text:sub(1, 3) == "\xEF\xBB\xBF" then
        text = text:sub(4)
    end
    local nul <const> = text:find("\0", 1, true)
    if nul then
        fail(name, line_of(text, nul), "there is a NUL byte in this line")
    end
    local length, bad = utf8.len(text)
    if not length then
        fail(name, line_of(text, bad), "this line is not valid UTF-8", "save the file as UTF-8")
    end
    return text
end

---The text between double quotes; `pos` is after the opening one. Returns the text and the position after the closing
---quote, or nil when there is none.
local function double_quoted(text, pos)
    local parts = {}
    while true do
        local stop <const> = text:find('["\\]', pos)
        if not stop then
            return nil
        end
        parts[#parts + 1] = text:sub(pos, stop - 1)
        if text:byte(stop) == 34 then
            return table.concat(parts), stop + 1
        end
        local char <const> = text:sub(stop + 1, stop + 1)
        parts[#parts + 1] = ESCAPES[char] or ("\\" .. char)
        pos = stop + 2
    end
end

local function single_quoted(text, pos)
    local stop <const> = text:find("'", pos, true)
    if not stop then
        return nil
    end
    return text:sub(pos, stop - 1), stop + 1
end

---A quoted value that begins at `pos`: the value and the position after it.
local function quoted_value(text, pos, name, line)
    local double <const> = text:byte(pos) == 34
    local value, after
    if double then
        value, after = double_quoted(text, pos + 1)
    else
        value, after = single_quoted(text, pos + 1)
    end
    if not value then
        fail(name, line, ("the %s quote that opens here is never closed"):format(double and "double" or "single"),
            "a value that begins with a quote must be put into the other kind of quotes")
    end
    if #value > MAX_LINE then
        fail(name, line, ("the quoted value that begins here is longer than %d bytes"):format(MAX_LINE))
    end
    local rest <const> = text:match("^[^\n]*", after)
    if not rest:find "^[ \t]*\r?$" and not rest:find "^[ \t]*#" then
        fail(name, line_of(text, after), "there is text after the closing quote",
            double and 'write \\" for a double quote inside double quotes'
            or "a single quote cannot stand inside single quotes: use double quotes")
    end
    return value:gsub("\r\n", "\n"), after + #rest
end

---An unquoted value: the text from `pos` to the end of the line, without comment and outer space.
---`spaced`: there is white space between "=" and `pos`.
local function plain_value(text, pos, spaced, name, line)
    local rest <const> = text:match("^[^\n]*", pos)
    local value = rest:gsub("\r$", "")
    if spaced and value:find "^#" then
        value = ""
    end
    value = value:gsub("[ \t]+#.*$", ""):gsub("[ \t]+$", "")
    if value:find "[^\t\x20-\x7E\x80-\xFF]" then
        fail(name, line, "there is a control character in the value", "quote the value")
    end
    return value, pos + #rest
end

local function store(result, key, value, line)
    local first <const> = result.lines[key]
    if first then
        result.duplicates[#result.duplicates + 1] = { key = key, line = line, first = first }
    else
        result.order[#result.order + 1] = key
    end
    result.values[key] = value
    result.lines[key] = line
end

---The key of the definition that begins at `pos`, the position of its value, and whether white space precedes the
---value.
local function definition(text, pos, name, line, colons)
    local start <const> = text:match("^[ \t]*export[ \t]+()[%a_]", pos) or pos
    local sign <const> = colons and "[=:]" or "="
    local key, spaces, value_at = text:match("^[ \t]*([%a_][%w_.-]*)[ \t]*" .. sign .. "([ \t]*)()", start)
    if key then
        return key, value_at, spaces ~= ""
    end
    if text:find("^[^\n]*=", pos) then
        fail(name, line, 'what stands before "=" is not a name',
            "names are made of letters, digits and _ and do not begin with a digit")
    end
    fail(name, line, "expected KEY=VALUE, a comment or a blank line")
end

---Parses the text of an environment file.
---@param text string
---@param name? string the file's name for errors (default `.env`)
---@param colons? boolean `KEY: value` is a definition too, as for some other programs
---@return dbrun.Dotenv
---Raises an error of kind `config`.
function M.parse(text, name, colons)
    args.check("dotenv.parse", "text", text, "string")
    args.optional("dotenv.parse", "name", name, "string")
    args.optional("dotenv.parse", "colons", colons, "boolean")
    name = name or ".env"
    text = check_text(text, name)
    local result = { name = name, values = {}, lines = {}, order = {}, duplicates = {}, expansions = {} }
    local pos, line = 1, 1
    while pos <= #text do
        local content <const> = text:match("^[^\n]*", pos)
        if #content > MAX_LINE then
            fail(name, line, ("this line is longer than %d bytes"):format(MAX_LINE))
        end
        local after = pos + #content
        if not content:find "^[ \t]*\r?$" and not content:find "^[ \t]*#" then
            local key <const>, value_at <const>, spaced <const> = definition(text, pos, name, line,
                colons)
            local quote <const> = text:match("^[\"']", value_at)
            local value
            if quote then
                value, after = quoted_value(text, value_at, name, line)
            else
                value, after = plain_value(text, value_at, spaced, name, line)
            end
            store(result, key, value, line)
            if quote ~= "'" and (value:find "%${[%a_]" or value:find "%$%(") then
                result.expansions[#result.expansions + 1] = { key = key, line = line }
            end
        end
        local _, newlines = text:sub(pos, after):gsub("\n", "")
        line = line + newlines
        pos = after + 1
    end
    return result
end

---Reads and parses an environment file.
---@param path string
---@param name? string the file's name for errors (default: the path)
---@param colons? boolean as for `parse`
---@return dbrun.Dotenv|nil nil when there is no such file
---Raises an error of kind `config` when it cannot be read or is malformed.
function M.read(path, name, colons)
    args.check("dotenv.read", "path", path, args.path)
    args.optional("dotenv.read", "name", name, "string")
    local file <close>, message, code = io.open(path, "rb")
    if not file then
        local ENOENT <const> = 2
        if code == ENOENT then
            return nil
        end
        errors.fail("config", "cannot read the environment file " .. message)
    end
    local text, why = file:read(MAX_FILE + 1)
    if not text and why then
        errors.fail("config", ("cannot read the environment file %s: %s"):format(path, why))
    end
    return M.parse(text or "", name or path, colons)
end

return args.answer_for_names(M, "dotenv", { load = "dotenv.read(path)", config = "dotenv.read(path)" })
