--- The expectations of a project about its servers and database: a Lua file that returns a list of facts.
---
---     return {
---         { postgresql = ">= 14", encoding = "UTF8", timezone = "UTC" },
---         { redis = ">= 6.2", eviction = "noeviction" },
---         { extension = "pg_trgm", version = ">= 1.5" },
---         { table = "sources", columns = { "id bigint not null", "name text" }, indexes = { "unique (name)" },
---           privileges = "select, insert" },
---         { table = "metrics.observations", time_partitioned = "observed_at", chunk_interval = "7 days",
---           compression = "30 days", retention = "1 year" },
---         { aggregate = "metrics.hourly", refreshed_within = "2 hours" },
---         { table = "orders", distributed_by = "customer" }, { table = "countries", reference = true },
---         { limit = "postgres.transactions", warn = 60, fail = 600 },
---         { check = "orders.open", about = "no order is older than a day", run = function(ctx) ... end },
---     }
local errors = require "dbrun.error"
local fs = require "dbrun.fs"

local M = {}

M.DEFAULT_FILE = "scripts/expect.lua"

---@class dbrun.verify.Fact
---@field table string "name" or "schema.name", as SQL would write it
---@field time_partitioned? string the column by which it must be split: a hypertable or native range partitions
---@field columns? string[] "name", "name type" or "name type not null"
---@field indexes? string[] a name, "(columns)" or "unique (columns)"
---@field privileges? string "select, insert"
---@field role? string whose privileges; default: the role that connects
---@field chunk_interval? string|number of a hypertable: "7 days"; the number of an integer column
---@field compression? boolean|string|number of a hypertable: whether it is on, or the age at which a policy compresses
---@field retention? boolean|string|number of a hypertable: whether there is a policy, or the age at which it drops
---chunks
---@field distributed_by? string Citus: the column by which the table must be distributed
---@field reference? boolean Citus: is it a reference table?

---@class dbrun.verify.Aggregate a continuous aggregate of TimescaleDB
---@field aggregate string
---@field refreshed_within? string|number an interval ("2 hours"), or seconds

---@class dbrun.verify.Own a check of the project
---@field check string its name, "orders.open"
---@field about? string
---@field needs? string[] default: none
---@field run fun(ctx: dbrun.verify.OwnContext): any

---@class dbrun.verify.Expectations
---@field file string
---@field there boolean false: no file was named and the default does not exist
---@field tables dbrun.verify.Fact[]
---@field extensions { extension: string, version?: string }[]
---@field aggregates dbrun.verify.Aggregate[]
---@field limits table<string, { warn?: number, fail?: number }>
---@field own dbrun.verify.Own[]
---@field own_at integer[] which facts they are
---@field [string] any the single facts: postgresql, encoding ...

---The keys of each kind of fact, and their types.
local KINDS <const> = {
    table = {
        table = "string", time_partitioned = "string", columns = "table", indexes = "table", privileges = "string",
        role = "string", chunk_interval = "string|number", compression = "boolean|string|number",
        retention = "boolean|string|number", distributed_by = "string", reference = "boolean",
    },
    aggregate = { aggregate = "string", refreshed_within = "string|number" },
    extension = { extension = "string", version = "string" },
    limit = { limit = "string", warn = "number", fail = "number" },
    check = { check = "string", about = "string", needs = "table", run = "function" },
}

---Facts about the servers, at most one of each.
local SINGLE <const> = {
    postgresql = "string", encoding = "string", timezone = "string", writable = "boolean", pooler = "boolean|string",
    replicas = "number", redis = "string", eviction = "string", persistence = "string", redis_replicas = "number",
    redis_can = "table",
}

local PRIVILEGES <const> = {
    SELECT = true, INSERT = true, UPDATE = true, DELETE = true, TRUNCATE = true, REFERENCES = true, TRIGGER = true,
    MAINTAIN = true, -- PostgreSQL 17
}

local function fail(file, message, hint)
    errors.fail("config", ("%s: %s"):format(file, message), hint)
end

---A wrong fact: the error names its line, or the line of its key.
local function wrong(file, i, key, message, hint)
    fail(require("dbrun.places").name(file, i, key), ("fact %d%s"):format(i, message), hint)
end

local function kind_of(file, i, fact)
    if type(fact) ~= "table" then wrong(file, i, nil, (" is a %s, not a table"):format(type(fact))) end
    local kinds = {}
    for kind in pairs(KINDS) do
        if fact[kind] ~= nil then kinds[#kinds + 1] = kind end
    end
    if #kinds == 1 then return kinds[1], KINDS[kinds[1]] end
    if #kinds > 1 then
        table.sort(kinds)
        wrong(file, i, kinds[2], (" has `%s`"):format(table.concat(kinds, "` and `")), "write a fact for each")
    end
    if next(fact) == nil then wrong(file, i, nil, " is empty") end
    return "single", SINGLE
end

local function check_fields(file, i, fact, kind, known)
    for key, value in pairs(fact) do
        if not known[key] then
            local names = {}
            for name in pairs(known) do names[#names + 1] = name end
            for name in pairs(kind == "single" and KINDS or {}) do names[#names + 1] = name end
            table.sort(names)
            local near = type(key) == "string" and require("dbrun.nearest").find(key, names)
            wrong(file, i, key, (" has '%s', which is not known here"):format(tostring(key)),
                near and ("did you mean '%s'?"):format(near) or "known here: " .. table.concat(names, ", "))
        end
        if not ("|" .. known[key] .. "|"):find("|" .. type(value) .. "|", 1, true) then
            wrong(file, i, key, (": `%s` is a %s, not a %s"):format(key, type(value), (known[key]:gsub("|", " or a "))))
        end
        for j, entry in ipairs(type(value) == "table" and value or {}) do
            if type(entry) ~= "string" or entry:find "[%c]" then
                wrong(file, i, key, (": entry %d of `%s` is not a name"):format(j, key))
            end
        end
    end
end

local function limit_names()
    local names = {}
    for name in pairs(require("dbrun.verify.limits").DEFAULTS) do names[#names + 1] = name end
    table.sort(names)
    return names
end

---Takes the first part off an SQL name; nil when it is not a name.
local function after_part(text, from)
    return text:match("^%s*[%a_\x80-\xff][%w_$\x80-\xff]*%s*()", from) or text:match('^%s*"[^"]+"%s*()', from)
end

---Checks the name of a table or view, because the server would refuse the whole query for one malformed name.
local function check_relation(file, i, key, name)
    local plain <const> = name:gsub('""', "  ")
    local at = after_part(plain, 1)
    if at and plain:sub(at, at) == "." then at = after_part(plain, at + 1) end
    if at == #name + 1 then return end
    local hint <const> = name:find '["%c.]' and [[name, schema.name, '"Odd Name"' or 'schema."Odd Name"']]
        or ([[write it with quotes: '"%s"']]):format(name)
    wrong(file, i, key, (": '%s' is not the name of a table as SQL writes it"):format(name), hint)
end

---Refuses a limit whose `warn` is beyond its `fail`, given or default: it would never warn.
local function check_limit(file, i, fact)
    local default = require("dbrun.verify.limits").DEFAULTS[fact.limit]
    if not default then
        local near = require("dbrun.nearest").find(fact.limit, limit_names())
        wrong(file, i, "limit", (": no check has the limit '%s'"):format(fact.limit),
            near and ("did you mean '%s'?"):format(near))
    end
    for _, key in ipairs { "warn", "fail" } do
        if fact[key] ~= fact[key] then wrong(file, i, key, (": `%s` is not a number"):format(key)) end
    end
    local warn, fail_at = fact.warn or default.warn, fact.fail or default.fail
    if not fact.warn and not fact.fail then
        wrong(file, i, nil, (": the limit '%s' has neither `warn` nor `fail`"):format(fact.limit))
    end
    if fact.warn and fail_at and (default.below and warn < fail_at or not default.below and warn > fail_at) then
        wrong(file, i, "warn", (": it would warn from %g on, and fails from %g on%s"):format(warn, fail_at,
            fact.fail and "" or " (the default)"), fact.fail and "exchange them"
            or ("give `fail`, too; for none: fail = %smath.huge"):format(default.below and "-" or ""))
    end
end

local function check_names(file, i, fact, kind)
    if kind ~= "single" and (fact[kind] == "" or fact[kind]:find "[%c]") then
        wrong(file, i, kind, (" names no %s"):format(kind))
    end
    if kind == "table" or kind == "aggregate" then check_relation(file, i, kind, fact[kind]) end
    if fact.distributed_by == "" then wrong(file, i, "distributed_by", ": `distributed_by` names no column") end
    if fact.distributed_by and fact.reference then
        wrong(file, i, "reference", ": a reference table has no column in `distributed_by`")
    end
    for word in (fact.privileges or ""):gmatch "[^,%s]+" do
        if not PRIVILEGES[word:upper()] then
            wrong(file, i, "privileges", (": '%s' is not a privilege of a table"):format(word))
        end
    end
    for _, key in ipairs { "version", "postgresql", "redis" } do
        if fact[key] and not M.version_pattern(fact[key]) then
            wrong(file, i, key, (": `%s` is '%s', not a version such as '>= 1.5'"):format(key, fact[key]))
        end
    end
    if type(fact.pooler) == "string" and fact.pooler ~= "session" and fact.pooler ~= "transaction" then
        wrong(file, i, "pooler", (": `pooler` is '%s', not 'session', 'transaction', true or false"):format(
            fact.pooler))
    end
    for _, key in ipairs { "refreshed_within", "chunk_interval", "compression", "retention" } do
        local value = fact[key]
        if type(value) == "number" and (value <= 0 or value ~= value) then
            wrong(file, i, key, (": `%s` is %s, not a number above 0"):format(key, tostring(value)))
        end
    end
    if kind == "limit" then check_limit(file, i, fact) end
    if kind == "check" and not fact.run then
        wrong(file, i, nil, (": the check '%s' has no `run`"):format(fact.check))
    end
end

---@return dbrun.verify.Expectations
local function empty(file, there)
    return { file = file, there = there, tables = {}, extensions = {}, aggregates = {}, limits = {},
        own = {}, own_at = {} }
end

local function add(into, kind, fact)
    if kind == "table" then into.tables[#into.tables + 1] = fact end
    if kind == "aggregate" then into.aggregates[#into.aggregates + 1] = fact end
    if kind == "extension" then into.extensions[#into.extensions + 1] = fact end
    if kind == "check" then into.own[#into.own + 1] = fact end
    if kind == "limit" then into.limits[fact.limit] = { warn = fact.warn, fail = fact.fail } end
    if kind == "single" then
        for key, value in pairs(fact) do into[key] = value end
    end
end

---Refuses elements outside the list or after a nil, because they would be ignored.
local function check_list(file, facts)
    local most = 0
    for key in pairs(facts) do
        if math.type(key) ~= "integer" or key < 1 then
            fail(require("dbrun.places").name(file, 0, key),
                ("'%s' is beside the facts, not in one"):format(tostring(key)),
                ("write each in braces: return { { %s = ... } }"):format(tostring(key)))
        end
        most = math.max(most, key)
    end
    for i = 1, most do
        if facts[i] == nil then wrong(file, i, nil, " is nil") end
    end
end

local function read(path)
    local chunk, why = loadfile(path, "t")
    if not chunk then errors.fail("config", why) end
    local ok, facts = pcall(require("dbrun.exit_guard").call, "the file " .. path, chunk)
    if not ok and type(facts) == "table" and not getmetatable(facts) then
        fail(path, "it raises a table as its error, not a text")
    end
    if not ok then errors.fail("config", tostring(facts)) end
    if type(facts) ~= "table" then
        fail(path, ("it returns %s, not a list of facts"):format(facts == nil and "nothing" or "a " .. type(facts)))
    end
    check_list(path, facts)
    return facts
end

---Reads the facts.
---@param file? string default scripts/expect.lua, which is optional
---@return dbrun.verify.Expectations
---Raises an error of kind `config` that names the file and what is wrong in it.
function M.load(file)
    local path = file or require "dbrun.project".path(M.DEFAULT_FILE)
    if not fs.exists(path) then
        if not file then return empty(path, false) end
        fail(path, "there is no such file")
    end
    local expectations = empty(path, true)
    for i, fact in ipairs(read(path)) do
        local kind, known = kind_of(path, i, fact)
        check_fields(path, i, fact, kind, known)
        check_names(path, i, fact, kind)
        add(expectations, kind, fact)
        if kind == "check" then expectations.own_at[#expectations.own] = i end
    end
    return expectations
end

---Empty expectations, for a run whose file has an error.
---@return dbrun.verify.Expectations
function M.none()
    return empty(M.DEFAULT_FILE, false)
end

-- ---- versions ----

---@param text string "14", ">= 1.5", "< 2"
---@return string? operator
---@return string? version
function M.version_pattern(text)
    local operator, version = text:match "^%s*([<>=]*)%s*(%d[%d.]*)%s*$"
    if not version or not (operator == "" or operator == "=" or operator:find "^[<>]=?$") then return nil end
    return operator == "" and "=" or operator, version
end

---Compares two versions: -1, 0, 1. With "=" a shorter one matches all that begin with it.
local function compare(a, b, prefix)
    local left, right = a:gmatch "%d+", b:gmatch "%d+"
    while true do
        local x, y = left(), right()
        if not y and (prefix or not x) then return 0 end
        local difference = (tonumber(x) or 0) - (tonumber(y) or 0)
        if difference ~= 0 then return difference < 0 and -1 or 1 end
    end
end

---Does a version fit? "15.10" fits ">= 14", "15" and "< 15.11".
---@param version string
---@param expected string
---@return boolean
function M.version_fits(version, expected)
    local operator, wanted = M.version_pattern(expected)
    local order = compare(version, wanted, operator == "=")
    if operator == "=" then return order == 0 end
    if operator:sub(1, 1) == ">" then return order > 0 or order == 0 and operator == ">=" end
    return order < 0 or order == 0 and operator == "<="
end

return M
