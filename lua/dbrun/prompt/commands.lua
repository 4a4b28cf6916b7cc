--- The commands of the prompt, which begin with a backslash. A part of the prompt that has some returns a table of them
--- by name; PARTS lists the parts.
---
---     return { ["dt"] = { usage = "\\dt [PATTERN]", summary = "tables", run = function(session, argument) ... end } }
---
--- The parts of the session (dbrun.prompt.session) that a command can use:
---
---     session:conn()          the prompt's own connection, opened when there is none; may raise (kind `connect`)
---     session:run(sql)        runs a statement and shows what came of it, as if it had been typed; false: it failed
---     session.last_sql        the last statement that was run, without its semicolon; nil: none yet
---     session:parameters(sql) the values of its :names, as one argument for conn:query(sql, values); nil: it has none
---     session:write(text)     a text of several lines: to the file of \o, else to the terminal, through the pager when
---                             it is higher than the screen. Control characters are the caller's care.
---     session:tell(text)      a line of the prompt's own, which never goes to the file of \o
---     session:options()       how tables are shown: the options for dbrun.table { format=, width=, colour= }
---     session.expanded        one line a column (\x)
---     session.lua             the table in which names of the prompt resolve: session.lua.x is the variable x
---     session.database        the database's name, as far as it is known
---     session:quit()          ends the prompt after this command
---
--- An error that a command raises is shown; the prompt goes on. Ctrl-C cancels a command as it cancels a statement.
local nearest = require "dbrun.nearest"

local M = {}

---@class dbrun.prompt.Command
---@field usage string "\\dt [PATTERN]"
---@field summary string one line, for \?
---@field run fun(session: dbrun.prompt.Session, argument: string, name: string) argument: the text after the name,
---trimmed; name: as it was typed
---@field hidden? boolean another name of a command that \? lists already

--- In the order of \?.
local PARTS <const> = {
    function() return require "dbrun.prompt.basic" end,
    function() return require "dbrun.prompt.describe_commands" end,
    function() return require "dbrun.prompt.tool_commands" end,
    function() return require "dbrun.prompt.redis_command" end,
}

--- Further lines of \?.
local NOTES <const> = [[


SQL runs at its semicolon, Lua at Enter; what follows SQL in a line is SQL.
:name in SQL is the Lua variable of that name.
conn db redis r task json config  are there; _ is the last result; = EXPR shows a value.
Tab completes; Ctrl-C drops what is typed, or cancels what runs; Ctrl-D ends.]]

local known

---Every command by its name, and the names in the order of the parts.
---@return table<string, dbrun.prompt.Command>
function M.all()
    if known then return known end
    known = {}
    known["?"] = {
        usage = "\\?", summary = "the commands", run = function(session) session:write(M.help() .. NOTES) end,
    }
    for _, part in ipairs(PARTS) do
        for name, command in pairs(part()) do known[name] = command end
    end
    return known
end

---Cuts a line into the command's name and its argument.
---@param line string
---@return string name
---@return string argument
function M.parse(line)
    local rest <const> = line:match "^%s*\\(.*)$"
    local name <const> = rest:match "^[%a_]+[%+S]*" or rest:match "^%S" or ""
    return name, rest:sub(#name + 1):match "^%s*(.-)%s*$"
end

---The command of this name.
---@param name string
---@return dbrun.prompt.Command|nil command
---@return string|nil message the error when there is none
function M.find(name)
    local all <const> = M.all()
    if all[name] then return all[name] end
    local names <const> = {}
    for other in pairs(all) do names[#names + 1] = other end
    table.sort(names)
    local near <const> = nearest.find(name, names)
    local message <const> = ("there is no command \\%s"):format(name)
    if near then return nil, ("%s: did you mean \\%s?"):format(message, near) end
    return nil, message .. ": \\? lists them; \\psql is psql itself"
end

---The text of \?, one line a command.
---@return string
function M.help()
    local lines <const>, width = {}, 0
    local list <const> = {}
    for name, command in pairs(M.all()) do
        if not command.hidden then
            list[#list + 1] = { name = name, usage = command.usage, summary = command.summary }
            width = math.max(width, #command.usage)
        end
    end
    table.sort(list, function(a, b) return a.name < b.name end)
    for _, command in ipairs(list) do
        lines[#lines + 1] = ("  %s%s  %s"):format(command.usage, (" "):rep(width - #command.usage), command.summary)
    end
    return table.concat(lines, "\n")
end

return M
