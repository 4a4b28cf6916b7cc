--- The text of a migration file, in dbmate's format: an up and a down section, each begun by a directive line, or
--- several such pairs. The ups of several pairs run in their order, the downs in reverse. Works on texts only: no
--- files, no database.
local errors = require "dbrun.error"
local nearest = require "dbrun.nearest"

local M = {}

---@class dbrun.migrate.Section
---@field sql string from the directive line (a comment) to the end of the section; several parts one behind the other
---@field line integer number of the (first) directive line in its file
---@field options table<string, string> the `key:value` words of the directive line
---@field transaction boolean false only for transaction:false (of one part at least)
---@field parts? dbrun.migrate.Section[] of a file with several pairs: one for each, in the order in which they run
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

local KNOWN <const> = {
    ["transaction:false"] = true, ["transaction:true"] = true, ["transaction:yes"] = true, ["transaction:on"] = true,
}

---Raises for a mistake in the name or value of `transaction`, which would otherwise be ignored. Other options are
---dbmate's, or remarks.
local function check_options(rest, name, number)
    for key, sign, value in rest:gmatch "([%w_]+)(%s*[:=]%s*)(%S*)" do
        local word <const> = key .. sign .. value
        if not KNOWN[word] and nearest.find(key, { "transaction" }) then
            fail(name, number, ("'%s' is not an option of a migration"):format(word), "the only one is "
                .. "transaction:false; without it the file runs in one transaction. A remark goes into its own line")
        end
    end
end

---The words `key:value` after the directive. Anything else on the line is a remark.
local function options_of(rest, name, number)
    check_options(rest, name, number)
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

---The signs of another tool's files.
local OTHERS <const> = {
    { tool = "goose", text = "%-%- ?%+goose " }, { tool = "golang-migrate", name = "%.up%.sql$" },
    { tool = "golang-migrate", name = "%.down%.sql$" },
}

---The command that imports another tool's files; nil: the file is not of another tool.
---@param name string path
---@param text? string
---@return string? hint
function M.import_hint(name, text)
    for _, other in ipairs(OTHERS) do
        if other.name and name:find(other.name) or other.text and text and text:find(other.text) then
            return ("this is a file of %s: dbrun migrate import %s --from %s --dir NEW_FOLDER"):format(other.tool,
                other.tool, name:match "^(.*)/[^/]*$" or ".")
        end
    end
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

---The hint for a directive that is not found: a line that looks like one, and is a comment.
local function near_hint(text, which)
    for number, line in lines(text) do
        local word <const> = line:lower():match "^%s*%-%-+%s*%+?migrat[a-z]*[%s:]+(%l+)"
        if word == which then
            return ("line %d is a comment: a directive is '-- migrate:%s', in lower case, at the start of its line")
                :format(number, which)
        end
    end
end

---The pairs of directives: an up and the down after it. Raises for what dbmate also refuses.
local function find_pairs(text, name)
    local list, stray = {}, nil
    for number, line, from in lines(text) do
        local which, rest = directive(line)
        local open = list[#list]
        local found = { line = number, from = from, options = which and options_of(rest, name, number) }
        if which == "up" then
            if open and not open.down then
                fail(name, number,
                    ("a second '-- migrate:up'; the first, in line %d, has no '-- migrate:down' after it"):format(
                        open.up.line), "begin its down section (nothing needs to follow it) before this line")
            end
            list[#list + 1] = { up = found }
        elseif which == "down" then
            if not open then
                fail(name, number, "'-- migrate:down' stands before '-- migrate:up'",
                    near_hint(text, "up") or "put the up section first")
            elseif open.down then
                fail(name, number, ("a second '-- migrate:down'; the first is in line %d"):format(open.down.line),
                    "each '-- migrate:down' needs a '-- migrate:up' of its own before it")
            end
            open.down = found
        elseif not open and not stray and not line:find "^%s*$" and not line:find "^%s*%-%-" then
            stray = number
        end
    end
    if stray and list[1] then
        fail(name, stray, "a statement stands before '-- migrate:up'", "only comments are allowed there: move it below")
    end
    return list
end

local function part(text, found, stop)
    return {
        sql = text:sub(found.from, stop),
        line = found.line,
        options = found.options,
        transaction = found.options.transaction ~= "false",
    }
end

---The section of a direction, made of the parts of all pairs in the order in which they run.
local function section(parts)
    if #parts == 1 then return parts[1] end
    local texts, transaction = {}, true
    for i, one in ipairs(parts) do
        if one.sql:sub(-1) ~= "\n" then one.sql = one.sql .. "\n" end
        texts[i], transaction = one.sql, transaction and one.transaction
    end
    return {
        sql = table.concat(texts), line = parts[1].line, options = parts[1].options, transaction = transaction,
        parts = parts,
    }
end

---Raises for a NUL byte, which no server accepts: psql would drop the rest of the line.
local function check_bytes(text, name)
    local at <const> = text:find("\0", 1, true)
    if not at then return end
    if text:find "^\xFF\xFE" or text:find "^\xFE\xFF" then
        fail(name, 1, "the file is UTF-16", "save it as UTF-8")
    end
    local _, before <const> = text:sub(1, at):gsub("\n", "")
    fail(name, before + 1, "the file has a NUL byte, which no SQL may have", "save it as UTF-8 text, without that byte")
end

---Splits a migration file into its two sections.
---@param text string the contents of the file
---@param name string its path, for messages
---@return dbrun.migrate.Parsed
---Raises an error of kind `query` that names file and line.
function M.parse(text, name)
    text = text:gsub("^\xEF\xBB\xBF", "")
    check_bytes(text, name)
    local list = find_pairs(text, name)
    local _, line_count = text:gsub("\n", "")
    if #list == 0 then
        fail(name, 1, "no '-- migrate:up' section", M.import_hint(name, text) or near_hint(text, "up")
            or "begin the file with a line '-- migrate:up'")
    end
    if not list[#list].down then
        fail(name, line_count + 1, "no '-- migrate:down' section", near_hint(text, "down")
            or "end the file with a line '-- migrate:down' (nothing needs to follow it)")
    end
    local ups, downs = {}, {}
    for i, pair in ipairs(list) do
        local behind = list[i + 1]
        ups[i] = part(text, pair.up, pair.down.from - 1)
        downs[#list + 1 - i] = part(text, pair.down, behind and behind.up.from - 1 or #text)
    end
    return { up = section(ups), down = section(downs) }
end

return M
