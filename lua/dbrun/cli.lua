--- The command line of a script, as a table: options, arguments, commands, `--help`, the exit status.
---
---     local cli, db = require "dbrun.cli", require "dbrun.db"
---     return cli.run {
---         about = "Deletes old notes.", only_one = true,
---         options = { { "days", "integer", default = 90, min = 1, help = "older than this" } },
---         run = function(args) print(args.days) end,
---     }
---
--- The manual's chapter "cli, log, progress" has the types and keys.
local args = require "dbrun.args"
local command_line = require "dbrun.command_line"
local core = require "dbrun.core"
local errors = require "dbrun.error"
local specs = require "dbrun.cli.spec"

local M = {}

--- The exit status of a run that found another one active: EX_TEMPFAIL of sysexits.h.
local BUSY <const> = 75
local OPTIONS_WORD <const> = "--dbrun-options"

--- What cli.confirm knows about the running script.
local current = { has_yes = false, yes = false, is_program = false }

---@class dbrun.cli.OptionSpec
---@field [1] string name, without "--": args.dry_run for "dry-run"
---@field [2]? "string"|"integer"|"number"|"seconds"|"bytes"|"date"|"file"|"choice"|"flag"|"list" default "string"
---@field help? string
---@field short? string one letter
---@field default? any
---@field required? boolean
---@field env? string a key of the environment or the .env, used when the command line does not give the option
---@field min? any for numbers, times, sizes, dates
---@field max? any
---@field choices? any[]
---@field of? string for a list: the type of its elements
---@field argname? string what the help shows for the value

---@class dbrun.cli.ArgumentSpec
---@field [1] string name
---@field [2]? string type, as of an option; default "string"
---@field help? string
---@field optional? boolean
---@field variadic? boolean takes all the rest, as a list
---@field default? any
---@field env? string
---@field min? any
---@field max? any
---@field choices? any[]
---@field of? string
---@field argname? string

---@class dbrun.cli.CommandSpec
---@field [1] string name
---@field about? string
---@field options? dbrun.cli.OptionSpec[]
---@field args? dbrun.cli.ArgumentSpec[]
---@field commands? dbrun.cli.CommandSpec[]
---@field only_one? boolean|string
---@field examples? string[]
---@field epilog? string
---@field run? fun(args: table): integer?

---@class dbrun.cli.Spec
---@field about? string one sentence: what it does
---@field name? string default: the script's file without ".lua"
---@field options? dbrun.cli.OptionSpec[]
---@field args? dbrun.cli.ArgumentSpec[]
---@field commands? dbrun.cli.CommandSpec[]
---@field only_one? boolean|string a second run of the script (or of that name) ends with status 75
---@field confirm? boolean|string true: the script has --yes for cli.confirm; a string is a question asked before run
---@field examples? string[] command lines
---@field epilog? string the end of the help
---@field run? fun(args: table): integer? its result is the exit status; nothing is 0

---@class dbrun.cli.Description
---@field name string
---@field about? string
---@field options table[] name, type, of, short, help, choices, default, required, env, argname
---@field args table[] the same, and optional, variadic
---@field commands dbrun.cli.Description[]

--- Sets the exit status, which also counts when the script does not return it.
local function leave(status)
    if core.status and current.is_program then core.status(status) end
    return status
end

local function refused(root, program, e)
    local hint = e.hint and (", %s"):format(e.hint) or ""
    command_line.note(("%s: %s%s (help: %s --help)"):format(root.name, e.message, hint, program))
    return leave(command_line.USAGE)
end

--- The exit status for what run returned. nil or false with a reason means that it failed, as with io.open.
local function status_of(name, result, why)
    if not result and errors.is(why) then error(why, 0) end
    if errors.is(result) then error(result, 0) end
    if not result and type(why) == "string" then
        command_line.note(("%s: %s"):format(name, why))
        return command_line.FAILED
    end
    if result == nil or result == true or type(result) == "table" then return command_line.OK end
    if result == false then return command_line.FAILED end
    local status = type(result) == "number" and math.tointeger(result)
    if status and status >= 0 and status <= 255 then return status end
    errors.fail("usage", ("%s: run returned %s, but its result is the exit status: an integer from 0 to 255"):format(
        name, type(result) == "number" and tostring(result) or "a " .. type(result)))
end

--- The value of a key of a command, or of the nearest command above it that has one.
local function nearest_with(level, key)
    while level do
        if level[key] ~= nil then return level[key] end
        level = level.parent
    end
end

local function work(root, level, values)
    if type(root.confirm) == "string" and not M.confirm(root.confirm) then
        command_line.note(root.name .. ": not confirmed: nothing was done")
        return command_line.FAILED
    end
    local run = nearest_with(level, "run")
    local alone = nearest_with(level, "only_one")
    if not alone then return status_of(root.name, run(values)) end
    local lock = type(alone) == "string" and alone or root.name
    local held, result, why = require "dbrun.cli.only_one".run(lock, function() return run(values) end)
    if held then return status_of(root.name, result, why) end
    command_line.note(("%s: it runs already: %s. Nothing was done."):format(lock, result))
    return BUSY
end

---Runs a script by its specification: reads the command line, prints the help, calls `run` with the options and
---arguments by name. A wrong command line is reported on stderr with status 2. Errors of `run` are not caught.
---@param spec dbrun.cli.Spec
---@param argv? string[] default: the program's arguments
---@return integer status for `return cli.run{...}`
---Raises an error of kind `usage` at the script's line when the specification is wrong.
---```lua
---local status = cli.run({ options = { { "days", "integer", default = 90 } },
---    run = function(args) print(args.days) end }, { "--days", "5" })  --> 5
---print(status)  --> 0
---```
function M.run(spec, argv)
    args.optional("cli.run", "argv", argv, args.strings)
    local root = specs.read(spec)
    local path = type(arg) == "table" and arg[0] or nil
    current = { has_yes = root.confirm and true or false, yes = false, is_program = argv == nil }
    argv = argv or type(arg) == "table" and table.move(arg, 1, #arg, 1, {}) or {}
    local help = require "dbrun.cli.help"
    if argv[1] == OPTIONS_WORD and #argv == 1 then
        command_line.print(require "dbrun.json".encode(help.describe(root)))
        return leave(command_line.OK)
    end
    local program = help.program(root, path)
    local dry = core.options.dry_run and require "dbrun.dry"
    if dry then dry.quiet = true end
    local ok, parsed = pcall(require "dbrun.cli.parse".parse, root, argv)
    if not ok then
        if errors.is(parsed, "usage") then return refused(root, program, parsed) end
        error(parsed, 0)
    elseif parsed.help then
        command_line.print(help.text(parsed.level, program))
        return leave(command_line.OK)
    end
    if dry then dry.quiet = false end
    if parsed.dry_run then require "dbrun.dry.start".start(true) end
    current.yes = current.has_yes and parsed.args.yes == true
    return leave(work(root, parsed.level, parsed.args))
end

local QUESTION <const> = {
    function(v) return type(v) == "string" and v:find "%S" ~= nil end, "a question", shows = true,
}

---Asks at the terminal (/dev/tty, even if standard input is redirected) and shows which database the script uses. Only
---"y" and "yes" confirm. With --yes (`confirm = true` in cli.run) it does not ask.
---@param text string "Delete 1,200 notes?"
---@return boolean
---Raises an error of kind `usage` where there is no terminal.
---```lua
---cli.run({ confirm = true, run = function() print(cli.confirm "Delete 5 notes?") end }, { "--yes" })  --> true
---```
function M.confirm(text)
    args.check("cli.confirm", "the question", text, QUESTION)
    return require "dbrun.cli.confirm".ask(text, current.yes, current.has_yes)
end

---The options of a script, for completion, without running it: its file is loaded in a sandbox that has no side
---effects.
---@param path string
---@return dbrun.cli.Description? nil: the script does not use cli.run, or not in a place that can be found
---@return string? why
---Raises only kind `usage`, for a path that is not a string.
---```lua
---fs.write("tidy.lua", [[require "dbrun.cli".run { options = { { "days", "integer" } }, run = print }]])
---print(cli.describe("tidy.lua").options[1].name)  --> days
---```
function M.describe(path)
    args.check("cli.describe", "path", path, args.path)
    return require "dbrun.cli.inert".describe(path)
end

return args.answer_for_names(M, "cli", {
    main = "cli.run{...}", parser = "cli.run{options = {...}}", parse = "cli.run{options = {...}}",
    argparse = "cli.run{options = {...}}", option = "cli.run{options = {...}}", ask = "cli.confirm(text)",
    prompt = "cli.confirm(text)", yes = "cli.confirm(text)", exit = "return the status from run",
    print = "print(...)", note = "require \"dbrun.log\"", log = "require \"dbrun.log\"",
})
