--- The definition of a job: its checked options, the values in force, its hash, and its statement prepared for chunks.
--- No database is used here; the walk finds the key of the table.
local args <const> = require "dbrun.args"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local hashes <const> = require "dbrun.batch.define.hash"
local hours <const> = require "dbrun.batch.define.hours"
local nearest <const> = require "dbrun.nearest"
local rules <const> = require "dbrun.batch.define.rules"
local signals <const> = require "dbrun.batch.signals.options"
local statement <const> = require "dbrun.batch.define.statement"

local M = {}

---@class dbrun.batch.Definition
---@field kind string "run", "purge", ...
---@field fn string the function that made it, for errors: "batch.job"
---@field name string
---@field table? string as given: "orders", "app.orders"
---@field source? table the source that is walked instead of a table
---@field as? string
---@field key? string[]
---@field where? string
---@field params table<string, any>
---@field run? string|string[]|function
---@field work? fun(walk: table, env: table): function of a kind that works without `run`
---@field settings table<string, any>
---@field throttle table<string, any>
---@field critical table<string, any>
---@field passes integer
---@field hash string
---@field texts table<string, string> table, key, where and run for people
---@field assigned table<string, true> the options that were given

---@class dbrun.batch.Extra what a kind adds
---@field options? table<string, dbrun.args.Rule> the kind's own options; their values are in the definition
---@field work? fun(walk: table, env: table): function
---@field run? string|string[]|function the statement, if the kind has one
---@field hashed? string[] its options that the hash covers
---@field texts? table<string, string> more for people

local TUNABLE_TABLES <const> = { throttle = true, critical = true }

-- ---- checks ----

local function fail(fn, message, hint, ...)
    errors.fail("usage", ("%s: %s"):format(fn, message:format(...)), hint)
end

local function sorted(set)
    local list = {}
    for name in pairs(set) do list[#list + 1] = tostring(name) end
    table.sort(list)
    return list
end

local function check_required(fn, options, extra)
    if options.name == nil then
        fail(fn, "name is missing", 'it is the job\'s identity in the database: name = "orders-cents"')
    elseif not options.table == not options.source then
        fail(fn, options.table and "table and source are given: a job walks one of them" or "table is missing",
            'say what is walked: table = "orders"')
    elseif extra.run or extra.work then
        if options.run ~= nil then fail(fn, "it has a run of its own", "batch.job takes a run") end
    elseif options.run == nil then
        fail(fn, "run is missing", 'run = "update ... where :chunk", or a function(tx, chunk)')
    end
end

local function check_params(fn, params)
    for name, value in pairs(params) do
        if type(name) ~= "string" or not name:find "^%a[%w_]*$" then
            fail(fn, "params has the name '%s', which no parameter can have", "a letter, then letters, digits and "
                .. "'_': params = { limit = 7 } is :limit in the SQL", tostring(name))
        elseif rules.RESERVED[name] then
            fail(fn, "params has '%s', which is a name of dbrun's own", "give it another name; dbrun's own are "
                .. table.concat(sorted(rules.RESERVED), ", "), name)
        elseif not rules.is_parameter(value) then
            fail(fn, "params.%s must be a value for PostgreSQL, got a %s", nil, name, type(value))
        end
    end
end

--- Settings that options of the job set, or that its guarantees depend on.
local OWN_SETTINGS <const> = {
    statement_timeout = "timeout = SECONDS", transaction_timeout = "timeout = SECONDS",
    lock_timeout = "lock_timeout = SECONDS", idle_in_transaction_session_timeout = "timeout = SECONDS",
    plan_cache_mode = "a chunk is planned with its own bounds", transaction_isolation = "a chunk is READ COMMITTED",
    default_transaction_isolation = "a chunk is READ COMMITTED",
    transaction_read_only = "a chunk's transaction writes its position",
    default_transaction_read_only = "a chunk's transaction writes its position",
}

local function check_settings(fn, settings)
    for name, value in pairs(settings) do
        if type(name) ~= "string" or not name:find "^[%a_][%w_.]*$" then
            fail(fn, "settings has '%s', which is no name of a setting", 'settings = { work_mem = "64MB" }',
                tostring(name))
        elseif OWN_SETTINGS[name:lower()] then
            fail(fn, "settings cannot have %s", OWN_SETTINGS[name:lower()], name)
        end
        args.check(fn, "settings." .. name, value, rules.SETTING)
    end
end

local function check_order(fn, values)
    if values.min > values.size then
        fail(fn, "min is %d, more than size, which is %d", "size is the first size, between min and max", values.min,
            values.size)
    elseif values.size > values.max then
        fail(fn, "size is %d, more than max, which is %d", "size is the first size, between min and max", values.size,
            values.max)
    elseif values.look < values.size then
        fail(fn, "look is %d, fewer than size, which is %d", "look is how many keys are looked at for size rows",
            values.look, values.size)
    elseif values.timeout < values.target then
        fail(fn, "timeout is %g s, less than target, which is %g s", "leave timeout out: it is 4 * target",
            values.timeout, values.target)
    end
end

local function key_of(fn, key)
    if key == nil then return nil end
    local list <const>, seen <const> = type(key) == "table" and table.move(key, 1, #key, 1, {}) or { key }, {}
    for _, name in ipairs(list) do
        if seen[name] then fail(fn, "key has the column '%s' twice", nil, name) end
        seen[name] = true
    end
    return list
end

-- ---- definitions ----

local function copy(t) return type(t) == "table" and not getmetatable(t) and table.move(t, 1, #t, 1, {}) or t end

local function assigned_of(options)
    local assigned = {}
    for name, value in pairs(options) do
        assigned[name] = true
        for signal in pairs(TUNABLE_TABLES[name] and value or {}) do assigned[name .. "." .. signal] = true end
    end
    return assigned
end

local function map(t)
    local out = {}
    for key, value in pairs(t or {}) do out[key] = value end
    return out
end

---`table` can be a source from batch.list and the like: the same as `source`.
local function with_source(fn, options)
    if type(options.table) == "table" and not options.source then
        options = map(options)
        options.source, options.table = options.table, nil
    end
    local source <const> = options.source
    if type(source) ~= "table" then return options end
    if type(source.open) ~= "function" then
        fail(fn, "source is none", "batch.list, batch.csv and batch.query make one")
    end
    for _, name in ipairs { "where", "key", "ties", "nulls", "follow" } do
        if options[name] ~= nil then
            fail(fn, "%s is for a table, and source is %s", "the source says what is done", name, source.text)
        end
    end
    return options
end

---Checks the options of a job and makes its definition.
---@param kind string "run", or the kind's name
---@param options table
---@param extra? dbrun.batch.Extra what the kind adds
---@return dbrun.batch.Definition
---Raises an error of kind `usage`.
function M.of(kind, options, extra)
    local fn <const> = kind == "run" and "batch.job" or "batch." .. kind
    extra = extra or {}
    local known <const> = map(rules.RULES)
    for name, rule in pairs(extra.options or {}) do known[name] = rule end
    args.check(fn, "its argument", options, "table")
    options = with_source(fn, options)
    args.options(fn, options, known)
    check_required(fn, options, extra)
    check_params(fn, options.params or {})
    check_settings(fn, options.settings or {})
    for name in pairs(TUNABLE_TABLES) do signals.read(fn, name, options[name]) end
    check_order(fn, rules.with_defaults(options))

    local definition <const> = map(options)
    definition.kind, definition.fn, definition.key = kind, fn, key_of(fn, options.key)
    for name, value in pairs(rules.with_defaults(options)) do definition[name] = value end
    for _, name in ipairs { "params", "settings", "throttle", "critical" } do definition[name] = map(options[name]) end
    definition.run, definition.work = copy(options.run or extra.run), extra.work
    local source <const> = definition.source
    if source and source.work and type(definition.run) ~= "function" then
        definition.work = source:work(definition) -- its run has no :chunk
    end
    definition.passes, definition.assigned = options.passes or 2, assigned_of(options)
    statement.check(definition)
    definition.hash = hashes.of(definition, extra.hashed or {})
    definition.texts = map(extra.texts)
    for name, text in pairs(hashes.texts(definition)) do definition.texts[name] = text end
    return definition
end

-- ---- values in force ----

---The value that `dbrun batch set NAME NAME=TEXT` sets; nil when it is not valid.
local function value_of(name, text)
    local rule <const> = rules.TUNABLE[name]
    local value = text
    if name ~= "hours" and name ~= "on_error" then
        value = not text:find "^%s*0[xX]" and tonumber(text) or nil
        value = math.tointeger(value) or value
    end
    return value ~= nil and rule[1](value) and value or nil
end

local OFF <const> = { rate = true, hours = true }

---Checks the values of `dbrun batch set`.
---@param name string "size", "throttle.replication_lag", ...
---@param text string
---@param given? table<string, any> the values in the job's file, from M.file_values
---Raises an error of kind `usage` for an unknown name or a value that it cannot have.
function M.check_set(name, text, given)
    local fn <const> = "batch set"
    args.check(fn, "name", name, "string")
    args.check(fn, "value", text, "string")
    local group <const> = name:match "^(%w+)%."
    if TUNABLE_TABLES[group] then
        local own <const> = {}
        for key, value in pairs(given or {}) do
            local of <const>, bare <const> = key:match "^(%w+)%.(.+)$"
            if of == group and value == "function" then own[bare] = function() end end
        end
        signals.parse(name, text, own)
    elseif not rules.TUNABLE[name] then
        local names = sorted(rules.TUNABLE)
        names[#names + 1], names[#names + 2] = "throttle.X", "critical.X"
        local near <const> = nearest.find(name, names)
        fail(fn, "'%s' cannot be set", near and ("did you mean '%s'?"):format(near)
            or "these can: " .. table.concat(names, ", "), name)
    elseif not (OFF[name] and text == "off") and value_of(name, text) == nil then
        fail(fn, "%s must be %s, got %q", nil, name, rules.TUNABLE[name][2] .. (OFF[name] and ", or off" or ""), text)
    end
end

--- Values in the database were checked when they were set. Values of an older or newer dbrun that are unknown here are
--- ignored.
local function set_values(definition, set)
    local said <const>, limits <const>, off <const> = {}, { throttle = {}, critical = {} }, {}
    for name, text in pairs(set or {}) do
        local group <const>, signal <const> = name:match "^(%w+)%.(.+)$"
        if TUNABLE_TABLES[group] then
            local ok <const>, limit <const> = pcall(signals.parse, name, text, definition[group])
            if ok then limits[group][signal] = limit end
        elseif OFF[name] and text == "off" then
            off[name] = true
        elseif rules.TUNABLE[name] then
            said[name] = value_of(name, text)
        end
    end
    return said, limits, off
end

---The values in force: values that were set override the file, and the file the defaults.
---@param definition dbrun.batch.Definition
---@param set? table<string, string> what `dbrun batch set` said
---@return table<string, any> values
---@return table<string, "set"|"file"|"default"> sources by name, "throttle.X" for a signal
function M.values(definition, set)
    local said <const>, limits <const>, off <const> = set_values(definition, set)
    local merged, sources = {}, {}
    for name in pairs(rules.TUNABLE) do
        local is_set <const> = said[name] ~= nil or off[name]
        sources[name] = is_set and "set" or definition.assigned[name] and "file" or "default"
        if said[name] ~= nil then
            merged[name] = said[name]
        elseif definition.assigned[name] and not off[name] then
            merged[name] = definition[name]
        end
    end
    local values <const> = rules.with_defaults(merged)
    -- Values that were set may contradict the file: `size` takes precedence.
    values.min, values.max = math.min(values.min, values.size), math.max(values.max, values.size)
    values.look, values.timeout = math.max(values.look, values.size), math.max(values.timeout, values.target)
    for group in pairs(TUNABLE_TABLES) do
        values[group] = map(definition[group])
        for name in pairs(values[group]) do sources[group .. "." .. name] = "file" end
        for name, limit in pairs(limits[group]) do
            values[group][name], sources[group .. "." .. name] = limit, "set"
        end
    end
    return values, sources
end

---The values in the file, as texts, for people who look at the job without the file.
---@param definition dbrun.batch.Definition
---@return table<string, string>
function M.file_values(definition)
    local texts = {}
    for name in pairs(definition.assigned) do
        local group <const>, signal <const> = name:match "^(%w+)%.(.+)$"
        local value = definition[name]
        if TUNABLE_TABLES[group] then value = definition[group][signal] end
        if rules.TUNABLE[name] or TUNABLE_TABLES[group] then
            local kind <const> = type(value)
            texts[name] = value == false and "off" or (kind == "function" or kind == "table") and kind
                or kind == "number" and core.pg.number_text(value) or tostring(value)
        end
    end
    return texts
end

-- ---- compiled work ----

M.hours = hours

---The SQL of a chunk of the walk: `:chunk` when `whole`, else `:range`.
M.condition = statement.condition

---SQL with :chunk and :range written out.
M.expand = statement.expand

---The parameters of statements for a chunk.
M.named = statement.named

---A bound as a parameter of type text[].
M.texts = statement.texts

---The statements of a job's `run`, written out for a walk.
M.statements = statement.statements

---Makes the function that does the work of a chunk.
---@param definition dbrun.batch.Definition
---@param walk dbrun.batch.Walk
---@param env? table what a kind's work needs
---@return fun(tx: table, chunk: table): integer, table? work
---Raises an error of kind `usage` for a `run` that cannot be done in chunks.
function M.compile(definition, walk, env)
    return require "dbrun.batch.define.compile".of(definition, walk, env)
end

return M
