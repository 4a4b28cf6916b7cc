--- What a cluster client must know about a command: which arguments are keys, and which nodes it goes to. The facts are
--- in the table of commands (core.redis.fact); for commands that are newer than the table it asks the server.
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"

local M = {}

---@class dbrun.redis.KeySpec
---@field name? string the command in the table, with its subcommand
---@field keys boolean it may have keys
---@field single? boolean the first argument is the only key
---@field reads boolean may be answered by a replica
---@field split? "list"|"sum"|"pairs" may be split by hash slot, and how the replies are combined
---@field everywhere? string goes to every primary, and how the replies are combined (everywhere.lua)
---@field replicas? boolean goes to every replica too
---@field movable? boolean only the server knows its keys
---@field range? {[1]: integer, [2]: integer, [3]: integer} first, last and step of the keys, as the server says
---@field by_slot? boolean its second argument is a hash slot: only the nodes that have the slot can answer
---@field of_server? table<string, dbrun.redis.KeySpec> subcommands that the server has described, by name in upper case

--- How the replies to the parts of a split command become one.
local SPLIT <const> = { join = "list", sum = "sum", all_succeeded = "pairs" }

--- These commands have no keys and no policy: a node that does not have the slot answers that it has no keys in it.
local BY_SLOT <const> = { ["CLUSTER COUNTKEYSINSLOT"] = true, ["CLUSTER GETKEYSINSLOT"] = true }

local known <const> = {}

local function by_table(name)
    local fact <const> = core.redis.fact(name)
    if not fact then
        return false
    end
    local all <const> = fact.request == "shards" or fact.request == "nodes"
    return {
        name = name, keys = fact.keys, single = fact.single, reads = fact.reads, subcommands = fact.subcommands,
        split = fact.request == "split" and SPLIT[fact.response] or nil,
        by_slot = BY_SLOT[name], everywhere = all and fact.response or nil, replicas = fact.request == "nodes" or nil,
    }
end

local function look_up(name)
    local spec = known[name]
    if spec == nil then
        spec = by_table(name)
        known[name] = spec
    end
    return spec
end

---What the table knows about a command.
---@param name string upper case
---@param argument any its first argument
---@return dbrun.redis.KeySpec? nil: unknown, ask the server (M.of_info)
---@return string? asked the name to ask it for
function M.known(name, argument)
    local spec <const> = look_up(name)
    if not spec then
        return nil, name
    elseif not spec.subcommands or type(argument) ~= "string" then
        return spec
    end
    local sub <const> = argument:upper()
    local full <const> = look_up(name .. " " .. sub)
    if full then
        return full
    end
    return nil, name .. "|" .. sub
end

--- The policies among the command tips of the server.
local function policies(spec, tips)
    local request, response = nil, "join"
    for _, tip in ipairs(tips or {}) do
        local which <const>, policy <const> = tip:lower():match "^(%l+)_policy:([%l_]+)$"
        if which == "request" then
            request = policy
        elseif which == "response" then
            response = policy:gsub("^agg_", ""):gsub("^logical_", "")
        end
    end
    if (request == "all_shards" or request == "all_nodes") and response ~= "special" then
        spec.everywhere, spec.replicas = response, request == "all_nodes" or nil
    end
end

---@param name string in any case
---@return boolean
function M.is_command(name)
    return core.redis.fact(name:upper()) ~= nil
end

local commands

---The names of all commands in the table, in upper case. Do not change the list, it is always the same.
---@return string[]
function M.commands()
    commands = commands or core.redis.commands()
    return commands
end

--- A command of a module with subcommands has their keys, each described as it is itself: `name|sub`.
local function subcommands_of(info)
    local specs
    for _, sub in ipairs(info[10] or {}) do
        local name <const> = type(sub[1]) == "string" and sub[1]:upper():match "|(.*)$"
        if name then
            specs = specs or {}
            specs[name] = M.of_info(sub)
        end
    end
    return specs
end

---Makes an entry from the reply of COMMAND INFO.
---@param info table? its reply for one name
---@return dbrun.redis.KeySpec
function M.of_info(info)
    if type(info) ~= "table" then
        return { keys = false, reads = false } -- the server does not know it: any node refuses it
    end
    local flags <const> = {}
    for _, flag in ipairs(info[3] or {}) do
        flags[flag] = true
    end
    local spec = { reads = flags.readonly or false, movable = flags.movablekeys, of_server = subcommands_of(info) }
    local from <const>, to <const>, step <const> = info[4], info[5], info[6]
    if not spec.movable and from and from > 0 then
        spec.range = { from, to, math.max(step or 1, 1) }
        spec.single = from == 1 and to == 1
    end
    spec.keys = spec.movable or spec.range ~= nil
    if not spec.keys then
        policies(spec, info[8])
    end
    return spec
end

local reading <const> = {}

--- A reply to a typed client has {status = "readonly"}.
local function plain(reply)
    if type(reply) ~= "table" then
        return reply
    elseif reply.status then
        return reply.status
    end
    local list <const> = {}
    for i = 1, #reply do
        list[i] = plain(reply[i])
    end
    return list
end

---For programs with --read-only: whether the server says that a command, which is not in the table, only reads. If the
---server does not know the command, or refuses to tell, the answer is no.
---@param client dbrun.redis.Client|dbrun.redis.Connection
---@param name string upper case
---@param argument any its first argument
---@return boolean
function M.only_reads(client, name, argument)
    local _ <const>, asked <const> = M.known(name, argument)
    if not reading[asked] then
        local ok <const>, replies <const> = pcall(client.call, client, "COMMAND", "INFO", asked)
        if not ok then
            if errors.is(replies, "redis") then
                return false -- a user without the right, a proxy
            end
            error(replies, 0)
        elseif type(replies) ~= "table" or type(replies[1]) ~= "table" then
            return false -- another server may know it
        end
        reading[asked] = M.of_info(plain(replies[1]))
    end
    local spec <const> = reading[asked]
    local sub <const> = spec.of_server and type(argument) == "string" and spec.of_server[argument:upper()]
    return (sub or spec).reads
end

---The keys among the `n` arguments of a command, if they can be found without asking the server.
---@param spec dbrun.redis.KeySpec
---@param args any[]
---@param n integer
---@return any[]
function M.of(spec, args, n)
    if spec.name then
        return core.redis.keys(spec.name, args, n)
    end
    local list <const>, first <const>, last, step <const> = {}, table.unpack(spec.range, 1, 3)
    last = last < 0 and n + 1 + last or math.min(last, n)
    for i = first, last, step do
        list[#list + 1] = args[i]
    end
    return list
end

return M
