--- A command line by the specification of a script: options anywhere, `--days 5` or `--days=5`, `-d5`, `-abc`, `--`
--- ends options; what is not given comes from the environment (or the .env), then from the default.
local core = require "dbrun.core"
local errors = require "dbrun.error"
local host_option = require "dbrun.host_option"
local nearest = require "dbrun.nearest"
local tty = require "dbrun.tty"
local types = require "dbrun.cli.types"

local M = {}

---@class dbrun.cli.Parsed
---@field level dbrun.cli.Level the script, or the command that was named
---@field args table<string, any> what run gets
---@field help? boolean it was asked for
---@field dry_run? boolean dbrun's own --dry-run stands after the script's name

---@class dbrun.cli.Parse
---@field level dbrun.cli.Level
---@field given table<string, any> by key
---@field words string[] arguments by position
---@field dry_run? boolean

local function fail(message, hint)
    errors.raise { kind = "usage", message = message, hint = hint }
end

local function shown(word)
    word = tty.printable(word):gsub("\n", "\\n")
    return utf8.len(word) and utf8.len(word) > 60 and word:sub(1, utf8.offset(word, 58) - 1) .. "..." or word
end

--- "--days N", or the name of an argument.
local function label(option)
    return option.is_argument and option.argname or "--" .. option.name
end

local function value_of(option, text, what)
    local value, expected, hint = types.value(option, text)
    if value == nil then
        fail(("%s: expected %s, got '%s'"):format(what or label(option), expected, shown(text)), hint)
    end
    return value
end

-- ---- options ----

--- Calls fn with the options that can stand here: those of the command and of the commands above it.
local function each_option(level, fn)
    local at = level
    while at do
        for _, option in ipairs(at.options) do
            local result = fn(option)
            if result ~= nil then return result end
        end
        at = at.parent
    end
end

local function named(level, name)
    return each_option(level, function(option) return option.name == name and option or nil end)
end

local function of_letter(level, letter)
    return each_option(level, function(option) return option.short == letter and option or nil end)
end

local OF_DBRUN <const> = "it is an option of dbrun: write it before the script's name"

local function raise_unknown(level, name)
    local names = { "--help" }
    each_option(level, function(option)
        names[#names + 1] = "--" .. option.name
        if option.type == "flag" then names[#names + 1] = "--no-" .. option.name end
    end)
    local near = nearest.find("--" .. name, names)
    if not near and host_option.is("--" .. name) then fail(("unknown option '--%s'"):format(name), OF_DBRUN) end
    fail(("unknown option '--%s'"):format(shown(name)), near and ("did you mean '%s'?"):format(near))
end

local function looks_like_option(word)
    return word:find "^%-." ~= nil and not word:find "^%-%.?%d"
end

--- The word after an option that needs a value.
local function next_value(option, argv, i)
    local word = argv[i + 1]
    if word == nil then
        fail(("%s needs a value"):format(label(option)))
    elseif looks_like_option(word) then
        fail(("%s needs a value, but '%s' follows"):format(label(option), shown(word)),
            ("a value that begins with '-' is written --%s=%s"):format(option.name, shown(word)))
    end
    return word
end

local function take(state, option, value)
    local before = state.given[option.key]
    if option.type == "list" and before then -- a list can be given in several options
        table.move(value, 1, #value, #before + 1, before)
    else
        state.given[option.key] = value
    end
end

--- The only option of the dbrun program that can stand after the script's name.
local DRY_RUN <const> = "dry-run"

---@return integer i the last word that was taken
local function take_long(state, argv, i)
    local name, value = argv[i]:match "^%-%-([^=]+)=?(.*)$"
    if not name then fail(("unknown option '%s'"):format(shown(argv[i]))) end
    local has_value = argv[i]:find("=", 1, true) ~= nil
    if name == "help" and not has_value then
        state.help = true
        return i
    end
    local option = named(state.level, name)
    local negated = not option and name:match "^no%-(.+)$"
    local flag = negated and named(state.level, negated)
    if flag and flag.type == "flag" then
        option = flag
    elseif not option and name == DRY_RUN and not has_value and host_option.is("--" .. name) then
        state.dry_run = true
        return i
    elseif not option then
        raise_unknown(state.level, name)
    end
    if option.type == "flag" then
        if has_value then
            fail(("--%s takes no value"):format(name),
                ("write --%s, or --no-%s"):format(option.name, option.name))
        end
        take(state, option, option ~= flag)
        return i
    end
    if not has_value then
        value = next_value(option, argv, i)
        i = i + 1
    end
    take(state, option, value_of(option, value))
    return i
end

local function take_short(state, argv, i)
    local word = argv[i]
    for at = 2, #word do
        local letter = word:sub(at, at)
        if letter == "h" then
            state.help = true
        else
            local option = of_letter(state.level, letter)
            if not option then
                if host_option.is(word) then fail(("unknown option '%s'"):format(word), OF_DBRUN) end
                local hint = #word > 2 and named(state.level, word:match "^%-([^=]*)")
                fail(("unknown option '-%s'"):format(shown(utf8.len(word) and letter:find "%w" and letter
                    or word:sub(at))), hint and ("did you mean '--%s'?"):format(hint.name) or nil)
            end
            if option.type == "flag" then
                take(state, option, true)
            else
                local value = word:sub(at + 1)
                if value == "" then
                    value = next_value(option, argv, i)
                    i = i + 1
                end
                take(state, option, value_of(option, value))
                return i
            end
        end
    end
    return i
end

-- ---- commands and arguments ----

local function names_of(commands)
    local names = {}
    for i, command in ipairs(commands) do names[i] = command.name end
    return names
end

local function command_named(level, word)
    for _, command in ipairs(level.commands) do
        if command.name == word then return command end
    end
    local names = names_of(level.commands)
    local near = nearest.find(word, names)
    fail(("unknown command '%s'"):format(shown(word)),
        near and ("did you mean '%s'?"):format(near) or "the commands are " .. table.concat(names, ", "))
end

local function take_word(state, word)
    if #state.level.commands > 0 then
        state.level = command_named(state.level, word)
        return
    end
    local args = state.level.args
    local last = args[#args]
    if #state.words >= #args and not (last and last.variadic) then
        fail(("unexpected argument '%s'"):format(shown(word)), #args == 0 and "it takes options only" or nil)
    end
    state.words[#state.words + 1] = word
end

--- The value of an environment variable or key of the .env.
local function of_environment(option)
    local config = require "dbrun.config"
    local text = config[option.env]
    if text == nil or text == "" then return nil end
    text = tostring(text)
    if require "dbrun.config.mask".by_name(option.env) then core.log.secret(text) end
    local value, expected
    if option.type == "flag" then
        value, expected = types.switch(text), "true or false"
    else
        value, expected = types.value(option, text)
    end
    if value == nil then -- not its value: it may be a secret
        fail(("%s, from %s (%s): expected %s"):format(label(option), option.env, config.source(option.env), expected))
    end
    return value
end

local function fallback(option)
    local value = option.env and of_environment(option)
    if value ~= nil and option.env then
        return option.variadic and option.type ~= "list" and { value } or value
    elseif type(option.default) == "table" then -- a list is the script's own to change
        return table.move(option.default, 1, #option.default, 1, {})
    elseif option.type == "file" and option.default ~= nil and not option.variadic then
        return value_of(option, option.default, label(option) .. " (default)")
    end
    return option.default
end

local function take_arguments(state)
    local args, words, given = state.level.args, state.words, state.given
    local missing = {}
    for i, arg in ipairs(args) do
        if words[i] and arg.variadic then
            local list = {}
            for k = i, #words do list[#list + 1] = value_of(arg, words[k]) end
            given[arg.key] = list
        elseif words[i] then
            given[arg.key] = value_of(arg, words[i])
        else
            given[arg.key] = fallback(arg)
            if given[arg.key] == nil and arg.variadic and arg.optional then given[arg.key] = {} end
            if given[arg.key] == nil and not arg.optional then missing[#missing + 1] = arg.argname end
        end
    end
    return missing
end

local function complete(state)
    local missing = take_arguments(state)
    each_option(state.level, function(option)
        local given = state.given
        if given[option.key] == nil then given[option.key] = fallback(option) end
        if option.type == "flag" and given[option.key] == nil then given[option.key] = false end
        if given[option.key] == nil and option.required then
            missing[#missing + 1] = "--" .. option.name .. (option.env and (" (or %s)"):format(option.env) or "")
        end
    end)
    if #missing > 0 then fail("missing: " .. table.concat(missing, ", ")) end
end

---Reads a command line.
---@param root dbrun.cli.Level
---@param argv string[]
---@return dbrun.cli.Parsed
---Raises an error of kind `usage`; its `level` is where the command line was wrong.
function M.parse(root, argv)
    ---@type dbrun.cli.Parse
    local state = { level = root, given = {}, words = {} }
    local i, only_words = 1, false
    while i <= #argv do
        local word = argv[i]
        if not only_words and word == "--" then
            only_words = true
        elseif not only_words and word:find "^%-%-" then
            i = take_long(state, argv, i)
        elseif not only_words and looks_like_option(word) then
            i = take_short(state, argv, i)
        else
            take_word(state, word)
        end
        i = i + 1
    end
    if state.help then return { level = state.level, args = {}, help = true } end
    if #state.level.commands > 0 and not state.level.run then
        fail("missing: a command", "one of " .. table.concat(names_of(state.level.commands), ", "))
    end
    complete(state)
    if state.level.parent then state.given.command = state.level.path end
    return { level = state.level, args = state.given, dry_run = state.dry_run }
end

return M
