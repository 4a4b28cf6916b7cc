--- Completion at the prompt: the candidates at the cursor. It never waits: names of the database come from
--- dbrun.prompt.database_names, which reads them in the background, and no function of a script is called.
local files <const> = require "dbrun.prompt.complete.files"
local lua_names <const> = require "dbrun.prompt.complete.lua_names"
local sql <const> = require "dbrun.prompt.complete.sql"
local words <const> = require "dbrun.prompt.complete.words"

local M = {}

---@class dbrun.prompt.CompleteContext
---@field before? string the earlier lines of the statement, with their line feeds
---@field language? "sql"|"lua" of these lines, or of the line; nil: the line's first word decides
---@field names? table dbrun.prompt.DatabaseNames:get()
---@field globals? table _G
---@field prompt_names? table<string, any> names of the prompt that are no globals, with their values; a
---function gives the value, "redis client" and "connection" stand for such an object that is not there yet
---@field commands? table<string, string|true> the `\` commands without backslash, and what each takes: "file", "redis",
---"topic" (with `topics`), "relation", "table", "index", "function", "schema", "role", "type", ...; true = nothing
---@field topics? string[] of the manual
---@field most? integer candidates at most (500)

--- The arguments of `\d` and similar commands, if the context does not give them.
---@type table<string, string>
M.ARGUMENTS = {
    d = "relation", dt = "table", dv = "view", dm = "materialized", di = "index", ds = "sequence", df = "function",
    sf = "function", dn = "schema", du = "role", dg = "role", l = "database", dx = "extension", dT = "type",
    dp = "relation", z = "relation", o = "file", i = "file", e = "file", redis = "redis", help = "topic",
}

local STATEMENT <const> = {}
for _, word in ipairs(words.STATEMENTS) do
    STATEMENT[word] = word ~= "do" and word ~= "end" and word ~= "table" or nil
end

--- SQL or Lua, if the caller does not say; nil while the first word is being typed.
local function language_of(text)
    local first <const>, rest <const> = text:match "^%s*(%a+)(.*)$"
    if not first then return "lua" end
    if rest == "" then return nil end
    if not STATEMENT[first:lower()] then return "lua" end
    if rest:find "^%s*[=~,%[{]" or rest:find "^[.:]" or rest:find "^[%w_]" then return "lua" end
    return "sql"
end

local function add_command(text, context, out)
    local commands <const> = context.commands or M.ARGUMENTS
    local name <const>, blank <const> = text:match "^\\(%S*)(%s*)"
    if blank == "" then
        for command in pairs(commands) do
            if command:sub(1, #name) == name then out[#out + 1] = "\\" .. command end
        end
        return 1
    end
    local plain <const> = name:gsub("[S+]+$", "")
    local kind = commands[name] or commands[plain]
    if type(kind) ~= "string" then kind = M.ARGUMENTS[plain] end
    if kind == "file" then
        local start <const> = text:match "()%S*$"
        files.add(text:sub(start), out)
        return start
    elseif kind == "topic" then
        local start <const> = text:match "()%S*$"
        words.add(context.topics or {}, text:sub(start), out)
        return start
    elseif kind == "redis" then
        local start <const> = #name + #blank + 2
        if not text:find("%s", start) then words.add(words.REDIS, text:sub(start), out) end
        return start
    elseif kind then
        local from <const> = #name + #blank + 2
        return from - 1 + sql.add_argument(text:sub(from), kind, context.names or {}, out)
    end
    return #text + 1
end

--- SQL inside a Lua string.
local function inner_sql(text, context)
    local found = {}
    local start <const> = sql.add(text, "", context, found)
    return start, STATEMENT[text:match("%a+"):lower()] and found or {}
end

---The candidates that can replace the text from `start` to the cursor.
---@param line string the line as it stands
---@param point integer how many bytes of it stand before the cursor
---@param context? dbrun.prompt.CompleteContext
---@return integer start the first byte (from 1) of what a candidate replaces
---@return string[] candidates sorted, each once
function M.candidates(line, point, context)
    context = context or {}
    local before <const>, typed <const> = context.before or "", line:sub(1, point)
    local out = {}
    if before == "" and typed:find "^\\" then
        local start <const> = add_command(typed, context, out)
        return start, words.finish(out, context.most or 500)
    end
    local text = before .. typed
    local shift = #before
    local language = context.language
    if before == "" and typed:sub(1, 1) == "=" then -- `=expression`
        text, shift, language = typed:sub(2), -1, "lua"
    end
    language = language or language_of(text)
    local start
    if language == "sql" then
        start = sql.add(text, line:sub(point + 1), context, out)
    else
        local with_sql <const> = setmetatable({ sql = inner_sql }, { __index = context })
        start = lua_names.add(text, with_sql, out)
        if not language then words.add(words.STATEMENTS, text:match "%S*$", out) end
    end
    return math.max(start - shift, 1), words.finish(out, context.most or 500)
end

return M
