--- Redis in a dry run: commands that only read go to the server; writes are listed, and answered if the answer follows
--- from their arguments; all others end the run with an error. Each command passes here before it is sent, from
--- clients, dedicated connections, pipelines and the nodes of a cluster.
local answers <const> = require "dbrun.dry.redis_answers"
local columns <const> = require "dbrun.dry.columns"
local command_line <const> = require "dbrun.command_line"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local key_patterns <const> = require "dbrun.dry.key_patterns"
local keys <const> = require "dbrun.redis.keys"
local shown <const> = require "dbrun.dry.shown"
local writes <const> = require "dbrun.redis.writes"

local M = {}

-- ---- listing ----

local MOST_BYTES <const> = 100 -- of a key

---@class dbrun.dry.RedisCommand
---@field label string
---@field patterns dbrun.dry.KeyPatterns
---@field times integer
---@field refused boolean it could not be answered

---@type dbrun.dry.RedisCommand[]
local list <const> = {}
---@type table<string, dbrun.dry.RedisCommand>
local told <const>, refused <const> = {}, {}

local function command_of(among, label)
    local command = among[label]
    if not command then
        command = { label = label, patterns = key_patterns.new(), times = 0, refused = among == refused }
        among[label], list[#list + 1] = command, command
    end
    return command
end

--- Lists a write, once for each pattern of its keys.
local function note(label, names)
    local command <const> = command_of(told, label)
    local first <const> = command.times == 0
    command.times = command.times + 1
    local new
    for _, name in ipairs(names) do
        name = tostring(name)
        if command.patterns:add(name) and not new then
            new = name
        end
    end
    if new or first then
        local more <const> = new and #names > 1 and (" (%d keys)"):format(#names) or ""
        require "dbrun.dry".tell("redis: " .. label .. (new and " " .. shown.cut(new, MOST_BYTES) or "") .. more)
    end
end

-- ---- what a command is ----

--- Commands without keys whose names are still listed: channels, and settings of the server.
local function names_of(label, spec, args)
    if label == "PUBLISH" then
        return { args[1] }
    elseif label == "CONFIG SET" then
        local names <const> = {}
        for i = 2, #args, 2 do
            names[#names + 1] = args[i]
        end
        return names
    end
    return spec.keys and spec.name and core.redis.keys(spec.name, args, #args) or {}
end

--- Commands whose state belongs to the connection, and ends with it.
local OF_CONNECTION <const> = { WATCH = true, UNWATCH = true }
--- Commands that --read-only allows, because it is about data.
local SENDS <const> = { PUBLISH = true, SPUBLISH = true }

local function only_reads(name, label, args)
    if OF_CONNECTION[name] then
        return true
    elseif SENDS[name] then
        return false
    elseif label == "ACL LOG" then
        return args[2] == nil or tostring(args[2]):upper() ~= "RESET"
    elseif name == "GETEX" then
        return #args == 1
    elseif writes.WITH[name] then
        return not writes.may_write(name, table.unpack(args))
    end
    return not core.redis.may_write(name, args[1])
end

local function refuse(label, names, reason, hint)
    local command <const> = command_of(refused, label)
    for _, name in ipairs(names) do
        command.patterns:add(tostring(name))
    end
    errors.raise {
        kind = "usage", outcome = "not_sent", hint = hint,
        message = ("redis: a dry run cannot answer %s: %s"):format(label, reason),
    }
end

--- The server's error.
local function error_reply(text)
    return errors.new { kind = "redis", code = text:match "^%S+", outcome = "not_sent", message = text }
end

--- A command that dbrun does not know: the server says what it is.
local function unknown_reads(handle, name, args)
    if keys.only_reads(handle, name, args[1]) then
        return true
    end
    refuse(name, {}, "dbrun does not know it, and the server does not say that it only reads (COMMAND INFO)",
        'what needs its answer can be left out: if not require("dbrun").dry_run then ... end')
end

--- The commands that a server has, by pool and name.
---@type table<any, table<string, boolean>>
local has <const> = {}

--- The command is not sent, but a server that cannot be reached, or does not answer, is still an error.
local function ask(handle, ...)
    local ok <const>, reply <const> = pcall(handle.call, handle, ...)
    if ok then
        return reply
    elseif not (errors.is(reply, "redis") and (reply.code == "ERR" or reply.code == "NOPERM")) then
        error(reply, 0)
    end
end

--- An older server has no HEXPIRE, another one has renamed FLUSHALL: this is checked once. If the server does not tell,
--- the command is assumed to exist.
---@return table? problem the error
---@return boolean asked
local function check_known(handle, label)
    local _ <const>, _ <const>, pool <const> = handle:links()
    local name <const>, of_pool <const> = label:match "^%S+", has[pool] or {}
    local asked <const> = of_pool[name] == nil
    has[pool] = of_pool
    if asked then
        local reply <const> = ask(handle, "COMMAND", "INFO", name)
        of_pool[name] = type(reply) ~= "table" or type(reply[1]) == "table"
    end
    return not of_pool[name] and error_reply(("ERR unknown command '%s'"):format(name)) or nil, asked
end

--- Raises the error if there is one, else checks that the server answers.
local function reach(handle, label, wrong)
    local problem <const>, asked <const> = check_known(handle, label)
    if problem or wrong then
        error(problem or error_reply(wrong), 0)
    elseif not asked then
        ask(handle, "PING")
    end
end

--- Decides about one command.
---@param handle dbrun.redis.Client|dbrun.redis.Connection
---@param name string upper case
---@param args (string|number)[]
---@param how "command"|"pipeline"|"transaction"
---@param typed boolean
---@return boolean send
---@return any answer of a command in a pipeline the entry of take_told
local function judge(handle, name, args, how, typed)
    local spec <const> = keys.known(name, args[1])
    if not spec then
        return unknown_reads(handle, name, args)
    end
    local label <const> = spec.name or name
    if only_reads(name, label, args) then
        return true
    end
    local names <const> = names_of(label, spec, args)
    if how == "transaction" then
        refuse("MULTI", {}, ("its commands run as one, and %s is one that writes"):format(label),
            'outside of a transaction many writes can be answered; if not require("dbrun").dry_run then ... end leaves '
            .. "it out")
    end
    local answer <const>, wrong <const> = answers.of(label, args)
    if answer == nil and not wrong then
        refuse(label, names, answers.why_not(label))
    elseif how == "pipeline" then
        return false, { label = label, names = names, answer = wrong and error_reply(wrong) or answer }
    end
    reach(handle, label, wrong)
    note(label, names)
    return false, typed and answer == "OK" and { status = answer } or answer
end

-- ---- pipelines ----

--- Replaces the answers of commands that the server does not have by its errors. If nothing else is sent, checks that
--- the server answers.
local function check_entries(entries, handle, sent)
    local asked_any = sent > 0
    for _, entry in ipairs(entries) do
        local problem <const>, asked <const> = check_known(handle, entry.label)
        entry.answer, asked_any = problem or entry.answer, asked_any or asked
    end
    if not asked_any and #entries > 0 then
        ask(handle, "PING")
    end
end

--- The writes of a pipeline are listed when it is sent.
local function send_of(send)
    return function(pipeline, undo, stop, name)
        local queued <const>, sent <const>, handle <const> = pipeline:told()
        local entries <const> = queued and table.move(queued, 1, #queued, 1, {}) or {}
        local of_client <const> = getmetatable(handle) == core.redis.class "client"
        check_entries(entries, of_client and stop and handle:__until(stop) or handle, sent)
        local replies <const> = send(pipeline, undo, stop, name)
        for _, entry in ipairs(entries) do
            if not errors.is(entry.answer) then
                note(entry.label, entry.names)
            end
        end
        return replies
    end
end

-- ---- the dry run ----

---Begins it: from now on each command is checked.
---@param late? boolean the script has begun
---Raises an error of kind `usage` when the script has used Redis before, because those writes are kept.
function M.install(late)
    if late and core.redis.opened() then
        errors.fail("usage", "--dry-run: the script has used Redis before cli.run, and what it wrote is kept",
            "write it before the script's name: dbrun --dry-run NAME")
    end
    local pipeline <const> = core.redis.class "pipeline".__index
    pipeline.send = send_of(pipeline.send)
    core.redis.judge_writes(judge)
    writes.to_confirm = function() return false end
    require "dbrun.dry.redis_lock".install(function(label, key) note(label, { key }) end)
    require "dbrun.redis.stream_group".new = function()
        refuse("XREADGROUP", {}, answers.why_not "XREADGROUP")
    end
end

-- ---- the summary ----

local MOST_ROWS <const> = 20 -- of one command

local function times(n)
    return n > 1 and command_line.count(n) .. " times" or ""
end

local UNITS <const> = {
    PUBLISH = "channels", SPUBLISH = "channels", ["CONFIG SET"] = "settings", lock = "locks",
}

local function amount(command, row)
    if row.keys > 1 or row.at_least then
        return ("%s%s %s"):format(row.at_least and "at least " or "", command_line.count(row.keys),
            UNITS[command.label] or "keys")
    end
    return times(row.times)
end

--- The lines of one command: its name, keys, how many.
local function add_rows(rows, command)
    local of_keys <const> = command.patterns:rows()
    if command.refused then
        local one <const> = #of_keys == 1 and shown.cut(of_keys[1].pattern, MOST_BYTES) or ""
        rows[#rows + 1] = { "redis", command.label, one, "not answered" }
        return
    elseif #of_keys == 0 then
        rows[#rows + 1] = { "redis", command.label, "", times(command.times) }
    end
    for i = 1, math.min(#of_keys, MOST_ROWS) do
        local row <const> = of_keys[i]
        rows[#rows + 1] = { "redis", command.label, shown.cut(row.pattern, MOST_BYTES), amount(command, row) }
    end
    if #of_keys > MOST_ROWS then
        rows[#rows + 1] = { "redis", command.label, ("and %d more patterns"):format(#of_keys - MOST_ROWS), "" }
    end
end

---What was not written, for the summary.
---@return string[]
function M.lines()
    local rows <const> = {}
    for _, command in ipairs(list) do
        add_rows(rows, command)
    end
    return columns.lines(rows)
end

return M
