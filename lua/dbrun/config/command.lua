--- The command line of the configuration.
local cli = require "dbrun.command_line"
local config = require "dbrun.config"
local keys = require "dbrun.config.keys"
local json = require "dbrun.json"
local project = require "dbrun.project"
local tty = require "dbrun.tty"

local M = {}

local EXAMPLES <const> = {
    "dbrun config                        what is configured, and where it comes from",
    "dbrun config --check                print only errors",
    "dbrun config --show API_TOKEN       one value as it is, also a secret",
    "dbrun --env-file staging.env config",
}

local EPILOG <const> = [[
Values come from --stack, the environment, the project's .env, the defaults, in this order. The project is
the nearest folder upwards with .dbrun, .env or scripts/migrations; -C DIR names another. Secrets are shown as ***, by
the name of the key (PASSWORD, TOKEN, KEY, AUTH, DSN ...) or because they look like one (a URL with a
user, 20 random characters); --show KEY prints one value as it is.
Exit status: 0 all values are valid, 1 KEY is not set, 2 a value is wrong.]]

local function parser()
    local p = cli.parser {
        name = "dbrun config",
        description = "Show the configuration: each key, its value and its source.",
        examples = EXAMPLES,
        epilog = EPILOG,
    }
    p:option("--format", "How to print."):choices { "text", "json" }:default "text"
    p:flag("--check", "Print only errors.")
    p:option("--show", "Print the value of this key, secret or not, and nothing else."):argname "KEY"
    return p
end

local function print_json(rows)
    local list = json.array()
    for i, row in ipairs(rows) do
        list[i] = {
            key = row.key,
            value = row.value or json.null,
            source = row.source,
            error = row.error,
            hint = row.hint,
        }
    end
    cli.write(cli.json(list, { indent = 2, sort_keys = true }), "\n")
end

local function print_table(rows)
    local style = cli.style(1)
    local cells = { { style.bold "KEY", style.bold "VALUE", style.bold "SOURCE" } }
    for _, row in ipairs(rows) do
        local value = row.error and style.red "wrong" or row.value and tty.printable(row.value) or style.dim "not set"
        local source = row.source == "default" and style.dim(row.source) or row.source
        cells[#cells + 1] = { row.key, value, source }
    end
    for _, line in ipairs(cli.table(cells)) do
        cli.report(line)
    end
end

---Reports each error once: a wrong key makes the URLs computed from it wrong too.
local function report_errors(rows)
    local reported = {}
    for _, row in ipairs(rows) do
        if row.error and not reported[row.error] then
            reported[row.error] = true
            cli.note("config: ", row.error, row.hint and (" (%s)"):format(row.hint) or "")
        end
    end
    return next(reported) and cli.USAGE or cli.OK
end

---The project's folder, as a row beside the keys.
local function project_row()
    local source = project.above() and "folder above" or "current folder"
    local passed, why = project.passed()
    if passed then source = ("%s; %s is not used: %s"):format(source, passed, why) end
    return { key = "project", value = project.folder(), source = source }
end

local function show(format)
    local rows = config.explain()
    table.insert(rows, 1, project_row())
    if format == "json" then
        print_json(rows)
    else
        print_table(rows)
    end
    return report_errors(rows)
end

---Prints one value as it is. A name that resembles a key is an error; any other name may be the project's own key.
local function reveal(key, format)
    if key == "project" then
        if format == "json" then print_json { project_row() } else cli.print(project.folder()) end
        return cli.OK
    end
    local value = config[key]
    if type(value) == "function" then value = nil end
    if value == nil then
        cli.note(("config: %s is not set"):format(key))
        return cli.FAILED
    end
    if format == "json" then
        print_json { { key = key, value = value, source = config.source(key) } }
    else
        cli.print(value == false and keys.specs[key] and keys.specs[key].off and "off" or tostring(value))
    end
    return cli.OK
end

local function check()
    for _, note in ipairs(config.check()) do
        cli.note("config: ", note)
    end
    return cli.OK
end

---Runs the command.
---@param argv string[] the arguments
---@return integer status
function M.main(argv)
    return cli.main("config", function()
        local args, help = cli.parse(parser(), argv)
        if not args then
            cli.write(help, "\n")
            return cli.OK
        end
        if args.show then return reveal(args.show, args.format) end
        if args.check then
            return check()
        end
        return show(args.format)
    end)
end

return M
