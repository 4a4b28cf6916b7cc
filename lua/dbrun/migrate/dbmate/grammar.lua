--- The command line of dbmate: its options before the command, the options of a command after it, and the environment
--- variables for them.
local duration = require "dbrun.migrate.dbmate.duration"
local errors = require "dbrun.error"

local M = {}

---The version whose command line this is.
M.VERSION = "2.35.0"

---@class dbrun.migrate.dbmate.Flag
---@field [1] string name
---@field short? string
---@field kind "text"|"list"|"switch"|"duration"
---@field env? string
---@field default? any
---@field shown? string the default, as help shows it
---@field about string

---@type dbrun.migrate.dbmate.Flag[]
M.GLOBAL = {
    { "url", short = "u", kind = "text", about = "URL of the database" },
    { "driver", kind = "text", env = "DBMATE_DRIVER", about = "postgres, whatever the scheme of the URL is" },
    { "env", short = "e", kind = "text", default = "DATABASE_URL", shown = '"DATABASE_URL"',
        about = "name of the variable that holds the URL" },
    { "env-file", kind = "list", default = { ".env" }, shown = '".env"', about = "file with variables" },
    { "migrations-dir", short = "d", kind = "list", env = "DBMATE_MIGRATIONS_DIR", shown = '"./db/migrations"',
        about = "folder with migrations" },
    { "migrations-table", kind = "text", env = "DBMATE_MIGRATIONS_TABLE", default = "schema_migrations",
        shown = '"schema_migrations"', about = "table that records the versions" },
    { "schema-file", short = "s", kind = "text", env = "DBMATE_SCHEMA_FILE", default = "./db/schema.sql",
        shown = '"./db/schema.sql"', about = "file with the schema" },
    { "no-dump-schema", kind = "switch", env = "DBMATE_NO_DUMP_SCHEMA", shown = "false",
        about = "do not write the schema file after a migration" },
    { "wait", kind = "switch", env = "DBMATE_WAIT", shown = "false",
        about = "wait for the server before the command" },
    { "wait-timeout", kind = "duration", env = "DBMATE_WAIT_TIMEOUT", default = 60, shown = "1m0s",
        about = "how long" },
    { "target", kind = "text", about = "name of the database: dbrun changes a protected one only if it is given" },
}

local STRICT <const> = { "strict", kind = "switch", env = "DBMATE_STRICT", shown = "false",
    about = "refuse files that are older than the last applied one" }
local VERBOSE <const> = { "verbose", short = "v", kind = "switch", env = "DBMATE_VERBOSE", shown = "false",
    about = "print how many rows each section changed" }
local EXIT_CODE <const> = { "exit-code", kind = "switch", shown = "false", about = "exit with 1 if any is pending" }
local QUIET <const> = { "quiet", kind = "switch", shown = "false", about = "print nothing (implies --exit-code)" }
local TARGET <const> = M.GLOBAL[#M.GLOBAL]

---@class dbrun.migrate.dbmate.Command
---@field [1] string name
---@field alias? string
---@field about string
---@field flags? dbrun.migrate.dbmate.Flag[]

---@type dbrun.migrate.dbmate.Command[]
M.COMMANDS = {
    { "new", alias = "n", about = "Make a migration file" },
    { "up", about = "Create the database if it is missing, and apply what is pending",
        flags = { STRICT, VERBOSE, TARGET } },
    { "create", about = "Create the database", flags = { TARGET } },
    { "drop", about = "Drop the database, if it exists", flags = { TARGET } },
    { "migrate", about = "Apply what is pending", flags = { STRICT, VERBOSE, TARGET } },
    { "rollback", alias = "down", about = "Take back the last migration", flags = { VERBOSE, TARGET } },
    { "status", about = "List the migrations and say which are applied", flags = { EXIT_CODE, QUIET } },
    { "dump", about = "Write the schema file (what follows -- goes to pg_dump)" },
    { "load", about = "Run the schema file", flags = { TARGET } },
    { "wait", about = "Wait until the server answers" },
    { "help", alias = "h", about = "Show the commands, or the options of one" },
}

---@param name string
---@return dbrun.migrate.dbmate.Command?
function M.command(name)
    for _, command in ipairs(M.COMMANDS) do
        if command[1] == name or command.alias == name then return command end
    end
end

-- ---- help ----

local function flag_names(flag)
    local value = flag.kind ~= "switch" and " value" or ""
    local names = "--" .. flag[1] .. value .. (flag.short and ", -" .. flag.short .. value or "")
    return flag.kind == "list" and ("%s [ %s ]"):format(names, names) or names
end

local function flag_lines(flags, more)
    local rows, width = {}, 0
    for _, flag in ipairs(flags) do
        local about = flag.about .. (flag.shown and (" (default: %s)"):format(flag.shown) or "")
            .. (flag.env and (" [$%s]"):format(flag.env) or "")
        rows[#rows + 1] = { flag_names(flag), about }
    end
    table.move(more, 1, #more, #rows + 1, rows)
    for _, row in ipairs(rows) do width = math.max(width, #row[1]) end
    for i, row in ipairs(rows) do rows[i] = ("   %-" .. width .. "s  %s"):format(row[1], row[2]) end
    return table.concat(rows, "\n")
end

---@param command? dbrun.migrate.dbmate.Command
---@param version string
---@return string
function M.help(command, version)
    if command then
        return ("NAME:\n   dbmate %s - %s\n\nUSAGE:\n   dbmate %s [command options]\n\nOPTIONS:\n%s"):format(command[1],
            command.about, command[1], flag_lines(command.flags or {}, { { "--help, -h", "show help" } }))
    end
    local rows = {}
    for i, one in ipairs(M.COMMANDS) do
        rows[i] = ("   %-14s  %s"):format(one[1] .. (one.alias and ", " .. one.alias or ""), one.about)
    end
    return ("NAME:\n   dbmate - dbmate's commands, run by dbrun\n\nUSAGE:\n   dbmate [global options] command "
        .. "[command options]\n\nVERSION:\n   %s\n\nCOMMANDS:\n%s\n\nGLOBAL OPTIONS:\n%s"):format(version,
        table.concat(rows, "\n"), flag_lines(M.GLOBAL, { { "--help, -h", "show help" },
            { "--version, -v", "print the version" } }))
end

-- ---- values ----

local BOOLEANS <const> = { ["1"] = true, t = true, T = true, TRUE = true, ["true"] = true, True = true,
    ["0"] = false, f = false, F = false, FALSE = false, ["false"] = false, False = false }

---The value of a text for a flag; or nil, what is wrong, and Go's words for the reason.
local function value_of(flag, text)
    if flag.kind == "switch" then
        local value = BOOLEANS[text]
        if value == nil then return nil, ("invalid boolean value %q for -%s: parse error"):format(text, flag[1]),
            ('strconv.ParseBool: parsing %q: invalid syntax'):format(text) end
        return value
    elseif flag.kind == "duration" then
        local seconds, why = duration.parse(text)
        if not seconds then return nil, ("invalid value %q for flag -%s: parse error"):format(text, flag[1]), why end
        return seconds
    elseif flag.kind == "list" then
        local list = {}
        for item in (text .. ","):gmatch "([^,]*)," do list[#list + 1] = item:match "^%s*(.-)%s*$" end
        return list
    end
    return text
end

local function store(values, flag, value)
    if flag.kind == "list" and values[flag[1]] then
        table.move(value, 1, #value, #values[flag[1]] + 1, values[flag[1]])
    else
        values[flag[1]] = value
    end
end

local function wrong(command, message, ...)
    errors.raise { kind = "usage", message = message:format(...), detail = command and command[1] }
end

---Takes the flags at `at`; returns the position of the first word after them.
local function take_flags(argv, at, flags, values, command)
    local by_name = { help = "help", h = "help" }
    if not command then by_name.version, by_name.v = "version", "version" end
    for _, flag in ipairs(flags) do
        by_name[flag[1]] = flag
        if flag.short then by_name[flag.short] = flag end
    end
    while argv[at] and #argv[at] > 1 and argv[at]:sub(1, 1) == "-" do
        local word = argv[at]
        at = at + 1
        if word == "--" then break end
        local name, has_value, text = word:match "^%-%-?([^=]*)(=?)(.*)$"
        if name == "" or name:sub(1, 1) == "-" then wrong(command, "bad flag syntax: %s", word) end
        local flag = by_name[name]
        if not flag then wrong(command, "flag provided but not defined: -%s", name) end
        if type(flag) == "string" then
            values[flag] = has_value == "" or BOOLEANS[text] ~= false or nil
        else
            if has_value == "" and flag.kind == "switch" then text = "true"
            elseif has_value == "" then
                text = argv[at]
                if not text then wrong(command, "flag needs an argument: -%s", name) end
                at = at + 1
            end
            local value, problem = value_of(flag, text)
            if value == nil then wrong(command, "%s", problem) end
            store(values, flag, value)
        end
    end
    return at
end

local TYPES <const> = { switch = "bool", duration = "duration" }

---Refuses environment variables with a wrong value for a flag: dbmate does so even if the flag is on the command line.
local function check_environment(flags, lookup, command)
    for _, flag in ipairs(flags) do
        local text = TYPES[flag.kind] and flag.env and lookup(flag.env)
        if text and text ~= "" then
            local value, _, why = value_of(flag, text)
            if value == nil then
                wrong(command, "could not parse %q as %s value from environment variable %q for flag %s: %s", text,
                    TYPES[flag.kind], flag.env, flag[1], why)
            end
        end
    end
end

---Gives the flags that are not on the command line the values of the environment, or their defaults.
local function complete(values, flags, lookup)
    for _, flag in ipairs(flags) do
        local text = values[flag[1]] == nil and flag.env and lookup(flag.env)
        if text and text ~= "" then values[flag[1]] = value_of(flag, text) end
        if values[flag[1]] == nil then values[flag[1]] = flag.default end
    end
end

---The files that --env-file names, anywhere on the command line: they are read before the command line is parsed.
---@param argv string[]
---@return string[]? list nil: it names none; empty: the last word is --env-file, and its own error follows
function M.env_files(argv)
    local list = {}
    if argv[#argv] == "--env-file" then return list end
    for i, word in ipairs(argv) do
        local inline = word:match "^%-%-?env%-file=(.*)$"
        if (word == "--env-file" or word == "-env-file") and argv[i + 1] then list[#list + 1] = argv[i + 1] end
        if inline then list[#list + 1] = inline end
    end
    return #list > 0 and list or nil
end

---@class dbrun.migrate.dbmate.Parsed
---@field command? dbrun.migrate.dbmate.Command
---@field values table<string, any> by name of the flag
---@field args string[] the words after the command and its options
---@field unknown? string a command that does not exist

---Parses a command line.
---@param argv string[]
---@param lookup fun(name: string): string? the environment
---@return dbrun.migrate.dbmate.Parsed
---Raises an error of kind `usage`, with the command's name in `detail`.
function M.parse(argv, lookup)
    local values = {}
    check_environment(M.GLOBAL, lookup)
    local at = take_flags(argv, 1, M.GLOBAL, values)
    local parsed = { values = values, args = {} }
    if values.help or values.version or not argv[at] then
        values.help = values.help or not values.version or nil
        return parsed
    end
    parsed.command = M.command(argv[at])
    if not parsed.command then
        parsed.unknown = argv[at]
        return parsed
    end
    local flags = parsed.command.flags or {}
    check_environment(flags, lookup, parsed.command)
    at = take_flags(argv, at + 1, flags, values, parsed.command)
    table.move(argv, at, #argv, 1, parsed.args)
    complete(values, M.GLOBAL, lookup)
    complete(values, flags, lookup)
    return parsed
end

return M
