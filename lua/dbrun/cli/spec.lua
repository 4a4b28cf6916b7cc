--- Checks and completes the table of cli.run; an error names its line in the script.
local errors = require "dbrun.error"
local nearest = require "dbrun.nearest"
local place = require "dbrun.cli.place"
local types = require "dbrun.cli.types"

local M = {}

---@class dbrun.cli.Option an option, or an argument by position
---@field name string as on the command line, without "--"
---@field key string its key in the table that run gets: "_" for "-"
---@field type string
---@field of? string of a list: the type of its elements
---@field default any
---@field default_text? string as the script writes it
---@field min any
---@field max any
---@field choices? any[]
---@field choices_text? string[]
---@field short? string
---@field env? string
---@field help? string
---@field argname string
---@field required? boolean
---@field is_argument? boolean
---@field optional? boolean of an argument
---@field variadic? boolean of an argument: takes all that follow

---@class dbrun.cli.Level the script itself, or one of its commands
---@field name string
---@field path string "purge old"; "" for the script itself
---@field parent? dbrun.cli.Level
---@field about? string
---@field options dbrun.cli.Option[]
---@field args dbrun.cli.Option[]
---@field commands dbrun.cli.Level[]
---@field examples? string[]
---@field epilog? string
---@field run? function
---@field only_one? boolean|string
---@field confirm? boolean|string of the script itself

local LEVEL <const> = {
    about = "string", options = "table", args = "table", commands = "table", run = "function", examples = "table",
    epilog = "string", only_one = "boolean or string",
}
local SCRIPT <const> = { name = "string", confirm = "boolean or string" }
local SHARED <const> = {
    default = "any", min = "any", max = "any", choices = "table", help = "string", argname = "string", of = "string",
    env = "string", required = "boolean",
}
local OPTION <const> = { short = "string" }
local ARGUMENT <const> = { optional = "boolean", variadic = "boolean" }
for key, rule in pairs(LEVEL) do SCRIPT[key] = rule end
for key, rule in pairs(SHARED) do OPTION[key], ARGUMENT[key] = rule, rule end

--- Names of other libraries for the same keys.
local MEANT <const> = {
    description = "about", usage = "about", title = "about", summary = "about", help = "about", flags = "options",
    arguments = "args", positional = "args", subcommands = "commands", action = "run", main = "run", fn = "run",
    lock = "only_one", single = "only_one",
}
local MEANT_OPTION <const> = {
    about = "help", description = "help", desc = "help", metavar = "argname", alias = "short", nargs = "variadic",
    multiple = "variadic", minimum = "min", maximum = "max", enum = "choices", values = "choices", envvar = "env",
}

--- Raises at the line of the script where `word` occurs for the `nth` time.
local function fail(spec, word, message, hint, nth)
    local e = errors.new { kind = "usage", message = "cli.run: " .. message, hint = hint }
    e.where = place.of(spec, word, nth, e.where)
    error(e, 0)
end

local function sorted(set)
    local names = {}
    for name in pairs(set) do names[#names + 1] = name end
    table.sort(names)
    return names
end

local function fits(rule, value)
    return rule == "any" or (" " .. rule .. " "):find(" " .. type(value) .. " ", 1, true) ~= nil
end

--- Checks the keys of a table of the specification; positions up to `positions` are the caller's.
local function check_keys(spec, what, t, known, positions, meant)
    for key, value in pairs(t) do
        local position = math.type(key) == "integer" and key >= 1 and key <= positions
        if not position and (type(key) ~= "string" or not known[key]) then
            local hint = known.short and key == "type" and 'the type stands second: { "days", "integer" }'
            local near = type(key) == "string"
                and (known[meant[key]] and meant[key] or nearest.find(key, sorted(known)))
            hint = hint or near and ("did you mean '%s'?"):format(near)
                or "the keys are " .. table.concat(sorted(known), ", ")
            fail(spec, type(key) == "string" and key or nil, ("%s has the unknown key '%s'"):format(what, key), hint)
        elseif not position and not fits(known[key], value) then
            fail(spec, key, ("%s: %s must be a %s, got a %s"):format(what, key, known[key], type(value)))
        end
    end
end

local function check_strings(spec, what, name, list)
    for i, text in ipairs(list or {}) do
        if type(text) ~= "string" then
            fail(spec, name, ("%s: %s[%d] must be a string, got a %s"):format(what, name, i, type(text)))
        end
    end
end

-- ---- values ----

--- Converts a limit or default to the value that `run` would get.
local function value_of(option, v)
    local bound = types.types[option.type].bound
    return bound and bound(v) or v
end

local function check_value(spec, what, option, name, v)
    local t = types.types[option.type]
    if not t.is(v) then
        fail(spec, option.name, ("%s: %s must be %s, got %s"):format(what, name, t.words,
            type(v) == "table" and "a table" or ("%s (a %s)"):format(tostring(v), type(v))))
    end
    return value_of(option, v)
end

local function check_limits(spec, what, option, given)
    local element = { type = option.of or option.type, name = option.name }
    for _, name in ipairs { "min", "max" } do
        if given[name] ~= nil then
            if not types.types[element.type].compare then
                fail(spec, option.name, ("%s: %s is for numbers, times, sizes and dates, not for a %s"):format(what,
                    name, element.type))
            end
            option[name] = check_value(spec, what, element, name, given[name])
        end
    end
    if option.min ~= nil and option.max ~= nil and option.min > option.max then
        fail(spec, option.name, ("%s: min is above max"):format(what))
    end
end

local function check_choices(spec, what, option, choices)
    if choices == nil then
        if option.type == "choice" or option.of == "choice" then
            fail(spec, option.name, what .. " is a choice without choices", 'choices = { "a", "b" }')
        end
        return
    end
    local kind = option.of or option.type
    if kind == "flag" or kind == "file" or #choices == 0 then
        fail(spec, option.name, #choices == 0 and what .. ": choices must be a list that is not empty"
            or ("%s: a %s has no choices"):format(what, kind))
    end
    option.choices, option.choices_text = choices, {}
    for i, choice in ipairs(choices) do
        if not types.types[kind].is(choice) or type(choice) ~= "string" and not types.types[kind].compare then
            fail(spec, option.name, ("%s: choices[%d] must be %s"):format(what, i,
                kind == "choice" and "a string" or types.types[kind].words))
        end
        option.choices_text[i] = tostring(choice)
    end
end

local function contains(list, value)
    for _, v in ipairs(list) do
        if v == value then return true end
    end
    return false
end

--- Whether a default, or an element of one, is a value that the command line could give.
local function check_within(spec, what, option, v)
    local out = option.min ~= nil and v < option.min or option.max ~= nil and v > option.max
    if out then fail(spec, option.name, what .. ": the default is outside of min and max") end
    if option.choices and not contains(option.choices, v) then
        fail(spec, option.name, ("%s: the default is not one of the choices (%s)"):format(what,
            table.concat(option.choices_text, ", ")))
    end
end

local function check_default(spec, what, option, v, variadic)
    if v == nil then return end
    if option.required then fail(spec, option.name, what .. " is required: its default is never used") end
    if option.type ~= "list" and not variadic then
        option.default, option.default_text = check_value(spec, what, option, "the default", v), tostring(v)
        check_within(spec, what, option, option.default)
        return
    end
    local element = { type = option.type == "list" and option.of or option.type, name = option.name }
    if type(v) ~= "table" then
        fail(spec, option.name, ("%s: the default must be a list, got a %s"):format(what, type(v)))
    end
    option.default = {}
    for i, item in ipairs(v) do
        option.default[i] = check_value(spec, what, element, ("default[%d]"):format(i), item)
        check_within(spec, what, option, option.default[i])
    end
end

-- ---- options and arguments ----

local function check_name(spec, what, given)
    local name = given[1]
    if type(name) ~= "string" or not name:find "^%a[%w_-]*$" then
        fail(spec, type(name) == "string" and name or nil, what
            .. (name == nil and " has no name" or " has an invalid name: letters, digits and '-'"),
            'it stands first: { "days", "integer" }')
    end
    return name
end

local function check_type(spec, what, option, kind, of)
    if type(kind) ~= "string" or not types.types[kind] then
        local near = type(kind) == "string" and nearest.find(kind, sorted(types.types), 3)
        fail(spec, option.name, ("%s has the unknown type '%s'"):format(what, tostring(kind)),
            near and ("did you mean '%s'?"):format(near)
            or "the types are " .. table.concat(sorted(types.types), ", "))
    end
    option.type = kind
    if kind == "list" then
        option.of = of or "string"
        if not types.types[option.of] or option.of == "flag" or option.of == "list" then
            fail(spec, option.name, ("%s: of = '%s' is not a type of elements"):format(what, option.of))
        end
    elseif of ~= nil then
        fail(spec, option.name, ("%s: `of` is the type of a list's elements"):format(what))
    end
end

---@return dbrun.cli.Option
local function option_of(spec, what, given, known)
    if type(given) ~= "table" then
        fail(spec, type(given) == "string" and given or nil, ("%s must be a table such as %s"):format(what,
            '{ "days", "integer", default = 90 }'))
    end
    local name = check_name(spec, what, given)
    what = ("%s ('%s')"):format(what, name)
    check_keys(spec, what, given, known, 2, MEANT_OPTION)
    ---@type dbrun.cli.Option
    local option = { name = name:gsub("_", "-"), key = name:gsub("-", "_"), help = given.help, env = given.env,
        required = given.required }
    check_type(spec, what, option, given[2] == nil and "string" or given[2], given.of)
    option.argname = given.argname or types.types[option.type].argname
    check_choices(spec, what, option, given.choices)
    check_limits(spec, what, option, given)
    if option.env and not option.env:find "^[%a_][%w_]*$" then
        fail(spec, option.name, what .. ": env must be the name of an environment variable")
    end
    check_default(spec, what, option, given.default, given.variadic)
    return option, what
end

local function take_option(spec, level, i, given, used)
    local option, what = option_of(spec, ("option %d"):format(i), given, OPTION)
    local short = given.short and given.short:gsub("^%-", "")
    if short and not short:find "^%a$" then
        fail(spec, given[1], what .. ": short must be one letter")
    elseif option.type == "flag" and option.required then
        fail(spec, given[1], what .. ": a flag cannot be required")
    end
    option.short = short
    local taken = { option.name, short and "-" .. short, option.type == "flag" and "no-" .. option.name or nil }
    for n = 1, 3 do
        local name = taken[n]
        if name and used[name] then
            fail(spec, given[1], ("%s: '%s' is %s already"):format(what, name:find "^%-" and name or "--" .. name,
                used[name]), nil, 2)
        end
    end
    for n = 1, 3 do
        if taken[n] then used[taken[n]] = ("the option '%s'"):format(option.name) end
    end
    level.options[#level.options + 1] = option
end

local function take_argument(spec, level, i, given, used)
    local option, what = option_of(spec, ("argument %d"):format(i), given, ARGUMENT)
    local before = level.args[i - 1]
    if used[option.name] then
        fail(spec, given[1], ("%s: that name is %s already"):format(what, used[option.name]), nil, 2)
    elseif option.type == "flag" then
        fail(spec, given[1], what .. ": a flag is an option")
    elseif before and before.variadic then
        fail(spec, given[1], what .. " follows one that takes all the rest")
    end
    option.optional = given.optional or given.required == false or given.default ~= nil or given.env ~= nil
    option.is_argument, option.variadic = true, given.variadic
    option.argname = given.argname or given[1]:upper():gsub("-", "_")
    if before and before.optional and not option.optional then
        fail(spec, given[1], what .. " is required, but follows an optional one")
    end
    used[option.name] = ("the argument '%s'"):format(option.name)
    level.args[i] = option
end

--- The elements of a list; raises for a table with other keys.
local function elements(spec, what, name, list)
    for key in pairs(list or {}) do
        if math.type(key) ~= "integer" then
            fail(spec, name, ("%s: %s must be a list, but has the key '%s'"):format(what, name, tostring(key)),
                ('%s = { { "NAME", ... }, ... }'):format(name))
        end
    end
    return list or {}
end

local level_of

local function take_commands(spec, level, given, used)
    local names, seen = {}, {}
    for key in pairs(given.commands or {}) do names[#names + 1] = key end
    table.sort(names, function(a, b)
        if math.type(a) == math.type(b) then return a < b end
        return math.type(a) == "integer"
    end)
    for _, key in ipairs(names) do
        local command = given.commands[key]
        local name = type(key) == "string" and key or type(command) == "table" and command[1]
        if type(command) ~= "table" then
            fail(spec, tostring(key), ("the command '%s' must be a table"):format(key), "{ \"NAME\", run = function }")
        elseif type(name) ~= "string" or not name:find "^%a[%w_-]*$" then
            fail(spec, nil, ("command %s has no name"):format(key), 'it stands first: { "purge", run = ... }')
        elseif seen[name] then
            fail(spec, name, ("the command '%s' is there twice"):format(name), nil, 2)
        end
        seen[name] = true
        local below = {}
        for k, v in pairs(used) do below[k] = v end
        level.commands[#level.commands + 1] = level_of(spec, command, level, name, below)
    end
end

local function check_runs(spec, what, level)
    if #level.commands > 0 and #level.args > 0 then
        fail(spec, "args", what .. " has both commands and arguments: a word would be either")
    elseif #level.commands == 0 then
        local at = level
        while at and not at.run do at = at.parent end
        if not at then fail(spec, level.name, what .. " has no run", "run = function(args) ... end") end
    end
end

---@return dbrun.cli.Level
function level_of(spec, given, parent, name, used)
    local what = parent and ("the command '%s'"):format(name) or "the table"
    check_keys(spec, what, given, parent and LEVEL or SCRIPT, parent and 1 or 0, MEANT)
    check_strings(spec, what, "examples", given.examples)
    ---@type dbrun.cli.Level
    local level = {
        name = name, parent = parent, about = given.about, run = given.run, examples = given.examples,
        epilog = given.epilog, only_one = given.only_one, options = {}, args = {}, commands = {},
        path = not parent and "" or parent.path == "" and name or parent.path .. " " .. name,
    }
    if not parent and given.confirm then
        take_option(spec, level, 0, { "yes", "flag", short = "y", help = "ask nothing" }, used)
    end
    for i, option in ipairs(elements(spec, what, "options", given.options)) do
        take_option(spec, level, i, option, used)
    end
    for i, option in ipairs(elements(spec, what, "args", given.args)) do
        take_argument(spec, level, i, option, used)
    end
    take_commands(spec, level, given, used)
    check_runs(spec, what, level)
    return level
end

local PROGRAM <const> = "the script"

---The script's name, from its file.
---@param path? string
---@return string
function M.name_of(path)
    return type(path) == "string" and path:match "([^/]+)$" and path:match("([^/]+)$"):gsub("%.lua$", "") or PROGRAM
end

---Checks the specification and completes it.
---@param given any
---@return dbrun.cli.Level
function M.read(given)
    if type(given) ~= "table" then
        fail(given, nil, ("its argument must be a table, got %s"):format(given == nil and "nil" or "a " .. type(given)),
            "cli.run { options = { ... }, run = function(args) ... end }")
    end
    local used = { help = "the help", ["-h"] = "the help", ["dbrun-options"] = "dbrun's own" }
    if type(given.commands) == "table" and next(given.commands) ~= nil then
        used.command = "where run finds the name of the command"
    end
    local name = given.name
    if name ~= nil and (type(name) ~= "string" or not name:find "^[%w][%w_.-]*$") then
        fail(given, "name", "name must be the script's name: letters, digits, '.', '_' and '-'")
    end
    local level = level_of(given, given, nil, name or M.name_of(type(arg) == "table" and arg[0]), used)
    level.confirm = given.confirm
    return level
end

return M
