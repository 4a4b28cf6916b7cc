--- The text of a migration file, in dbmate's format: an up and a down section, each begun by a directive line. Works on
--- texts only: no files, no database.
local errors = require "dbrun.error"

local M = {}

---@class dbrun.migrate.Section
---@field sql string from the directive line (a comment) to the end of the section
---@field line integer number of the directive line in its file
---@field options table<string, string> the `key:value` words of the directive line
---@field transaction boolean false only for transaction:false
---@field fn? fun(ctx: table) of a Lua migration, which has no SQL

---@class dbrun.migrate.Parsed
---@field up dbrun.migrate.Section
---@field down dbrun.migrate.Section

local function fail(name, line, message, hint)
    errors.raise {
        kind = "query",
        message = ("%s:%d: %s"):format(name, line, message),
        hint = hint,
        file = name,
        line = line,
    }
end

---The words `key:value` after the directive. Anything else on the line is a remark.
local function options_of(rest)
    local options = {}
    for word in rest:gmatch "%S+" do
        local key, value = word:match "^([^:]+):([^:]*)$"
        if key then options[key] = value end
    end
    return options
end

---For a directive: "up" or "down" and the rest of the line. It begins in column 0, in lower case, with a blank or
---nothing after it.
local function directive(line)
    local which, rest = line:match "^%-%-%s*migrate:(%l+)(.*)$"
    if (which == "up" or which == "down") and (rest == "" or rest:find "^%s") then return which, rest end
end

---Every line with its number and the byte it begins at.
local function lines(text)
    local at, number = 1, 0
    return function()
        if at > #text then return end
        local from = at
        local stop = text:find("\n", at, true) or #text + 1
        at, number = stop + 1, number + 1
        return number, text:sub(from, stop - 1), from
    end
end

---The place of each directive. Raises for what dbmate refuses too.
local function find_directives(text, name)
    local found, stray = {}, nil
    for number, line, from in lines(text) do
        local which, rest = directive(line)
        if which then
            if found[which] then
                fail(name, number,
                    ("a second '-- migrate:%s'; the first is in line %d"):format(which, found[which].line),
                    "a migration has one section of each kind: split it into two files")
            end
            if which == "down" and not found.up then
                fail(name, number, "'-- migrate:down' stands before '-- migrate:up'", "put the up section first")
            end
            found[which] = { line = number, from = from, options = options_of(rest) }
        elseif not found.up and not stray and not line:find "^%s*$" and not line:find "^%s*%-%-" then
            stray = number
        end
    end
    if stray and found.up then
        fail(name, stray, "a statement stands before '-- migrate:up'", "only comments are allowed there: move it below")
    end
    return found
end

local function section(text, found, stop)
    return {
        sql = text:sub(found.from, stop),
        line = found.line,
        options = found.options,
        transaction = found.options.transaction ~= "false",
    }
end

---Splits a migration file into its two sections.
---@param text string the contents of the file
---@param name string its path, for messages
---@return dbrun.migrate.Parsed
---Raises an error of kind `query` that names file and line.
function M.parse(text, name)
    text = text:gsub("^\xEF\xBB\xBF", "")
    local found = find_directives(text, name)
    local _, line_count = text:gsub("\n", "")
    if not found.up then
        fail(name, 1, "no '-- migrate:up' section", "begin the file with a line '-- migrate:up'")
    end
    if not found.down then
        fail(name, line_count + 1, "no '-- migrate:down' section",
            "end the file with a line '-- migrate:down' (nothing needs to follow it)")
    end
    return {
        up = section(text, found.up, found.down.from - 1),
        down = section(text, found.down, #text),
    }
end

return M
