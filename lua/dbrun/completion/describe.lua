--- The options, arguments and sub-commands of a command, of dbrun or of the project, in one form.
local command_line <const> = require "dbrun.command_line"
local core <const> = require "dbrun.core"

local M = {}

---@class dbrun.completion.Option
---@field names string[] with their dashes
---@field about string
---@field takes string|false the word for its value; false: it takes none
---@field choices? string[]

---@class dbrun.completion.Level
---@field about string
---@field options dbrun.completion.Option[]
---@field args { takes: string, choices?: string[] }[] the last one can repeat
---@field more boolean may the last argument come again?
---@field commands table<string, dbrun.completion.Level>
---@field order string[] names of the commands that are shown

--- The modules of the commands: what scripts/NAME.lua calls. `dbrun completion`, which
--- asks, adds itself.
M.COMMANDS = {
    batch = function() return require "dbrun.batch.show.command" end,
    config = function() return require "dbrun.config.command" end,
    help = function() return require "dbrun.manual.command" end,
    init = function() return require "dbrun.start.command" end,
    migrate = function() return require "dbrun.migrate" end,
    redis = function() return require "dbrun.redis.shell.command" end,
    seed = function() return require "dbrun.seed" end,
    sql = function() return require "dbrun.sql.command" end,
    stack = function() return require "dbrun.stack.command" end,
    test = function() return require "dbrun.testing.command" end,
    verify = function() return require "dbrun.verify" end,
    version = function() return require "dbrun.start.version" end,
}

local function first_line(text)
    return (text or ""):match "^[^\n]*":gsub("%.$", "")
end

local function level_of_parser(parser, above)
    local level <const> = {
        about = first_line(parser._description), options = {}, args = {}, more = false, commands = {}, order = {},
    }
    for _, option in ipairs(above and above.options or {}) do
        if option.names[1] ~= "-h" then level.options[#level.options + 1] = option end
    end
    for _, option in ipairs(parser._options) do
        if not option._hidden then
            level.options[#level.options + 1] = {
                names = option._aliases, about = first_line(option._description), choices = option._choices,
                takes = option._maxargs > 0 and option:_get_argname(1) or false,
            }
        end
    end
    for i, argument in ipairs(parser._arguments) do
        level.args[i] = { takes = argument:_get_argname(1), choices = argument._choices }
        level.more = argument._maxargs > 1
    end
    for _, command in ipairs(parser._commands) do
        local one <const> = level_of_parser(command, level)
        for _, name in ipairs(command._aliases) do level.commands[name] = one end
        if not command._hidden then level.order[#level.order + 1] = command._aliases[1] end
    end
    return level
end

local function texts(list)
    if not list then return nil end
    local out <const> = {}
    for i, one in ipairs(list) do out[i] = tostring(one) end
    return out
end

---Describes a script that uses cli.run.
local function level_of_script(described, above)
    local level <const> = {
        about = first_line(described.about), options = {}, args = {}, more = false, commands = {}, order = {},
    }
    local own_dry_run = false
    for _, option in ipairs(described.options) do own_dry_run = own_dry_run or option.name == "dry-run" end
    for _, option in ipairs(above and above.options or { { names = { "-h", "--help" }, about = "Show this help",
        takes = false }, { names = { "--dry-run" }, about = "Nothing is kept", takes = false } }) do
        if option.names[1] ~= "--dry-run" or not own_dry_run then level.options[#level.options + 1] = option end
    end
    for _, option in ipairs(described.options) do
        local names <const> = { option.short and "-" .. option.short or nil }
        names[#names + 1] = "--" .. option.name
        local is_flag <const> = option.type == "flag"
        level.options[#level.options + 1] = {
            names = names, about = first_line(option.help), choices = texts(option.choices),
            takes = not is_flag and (option.type == "file" and "FILE" or option.argname or option.type) or false,
        }
        if is_flag and option.default then
            level.options[#level.options + 1] = { names = { "--no-" .. option.name }, about = "", takes = false }
        end
    end
    for i, argument in ipairs(described.args) do
        level.args[i] = {
            takes = argument.type == "file" and "FILE" or argument.argname or argument.name,
            choices = texts(argument.choices),
        }
        level.more = argument.variadic == true
    end
    for _, command in ipairs(described.commands) do
        level.commands[command.name] = level_of_script(command, level)
        level.order[#level.order + 1] = command.name
    end
    return level
end

---Describes dbmate, which has its own grammar.
local function level_of_dbmate()
    local grammar <const> = require "dbrun.migrate.dbmate.grammar"
    local function options(flags)
        local out <const> = {}
        for i, flag in ipairs(flags or {}) do
            local file <const> = flag[1]:find "file$" and "FILE" or flag[1]:find "dir$" and "FOLDER" or "value"
            out[i] = {
                names = { flag.short and "-" .. flag.short or "--" .. flag[1], flag.short and "--" .. flag[1] or nil },
                about = first_line(flag.about), takes = flag.kind ~= "switch" and file or false,
            }
        end
        return out
    end
    local top <const> = { about = "dbmate's commands, run by dbrun", options = options(grammar.GLOBAL), args = {},
        more = false, commands = {}, order = {} }
    for i, command in ipairs(grammar.COMMANDS) do
        top.order[i] = command[1]
        top.commands[command[1]] = { about = first_line(command.about), options = options(command.flags), args = {},
            more = false, commands = {}, order = {} }
        if command.alias then top.commands[command.alias] = top.commands[command[1]] end
    end
    return top
end

---Describes a command.
---@param name string as on the command line
---@param is_file? boolean it is a path
---@return dbrun.completion.Level? level nil: nothing is known of it
function M.level(name, is_file)
    local path <const> = is_file and name or core.words(name)
    if not path then return nil end
    local inside <const> = not is_file and select(2, core.words(name))
    local described <const> = not inside and require "dbrun.cli".describe(path)
    if described then return level_of_script(described) end
    if is_file then return nil end
    if name == "dbmate" then return level_of_dbmate() end
    local command <const> = M.COMMANDS[name]
    if not command then return nil end
    local parser <const> = command_line.parser_of(command().main)
    return parser and level_of_parser(parser) or nil
end

return M
