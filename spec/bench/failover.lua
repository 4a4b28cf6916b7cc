-- `dbrun spec/bench/failover.lua`: F1, how a failover affects a program. Twenty tasks write unique values and read them
-- back, while their primary is killed, replaced or frozen, in a cluster and behind sentinels; without waiting for
-- replicas, and with WAIT for all of them.
-- Prints one table and writes it as failover.json and failover.md.
local home <const> = arg[0]:match "^(.*)/[^/]*$" or "."
package.path = home .. "/../../?.lua;" .. home .. "/../?.lua;" .. package.path

local cli <const> = require "dbrun.command_line"
local failover <const> = require "spec.support.failover"
local json <const> = require "dbrun.json"
local redis <const> = require "dbrun.redis"
local redis_cluster <const> = require "spec.support.redis_cluster"
local redis_sentinels <const> = require "spec.support.redis_sentinels"
local redis_server <const> = require "spec.support.redis_server"
local shell <const> = require "bench.lib.shell"

local COMMAND_TIMEOUT <const> = 10
local ALL_REPLICAS <const> = { replicas = 1, timeout = 0.2 } -- each primary has one
local MOST_BEHIND <const> = 1 -- seconds after the probe's first acknowledged write

local function parser()
    local p <const> = cli.parser {
        name = "dbrun spec/bench/failover.lua",
        description = "Measure failovers of a Redis cluster and of Redis behind sentinels.",
        examples = { "dbrun spec/bench/failover.lua --only frozen" },
        epilog = "Exit status: 0 measured, 1 a foreign value was read, a write that all replicas\n"
            .. "had was lost, or a call outlived its deadline, 2 usage.",
    }
    p:option("--only", "Only these: killed, graceful, frozen."):convert(cli.list)
    p:option("--output", "Folder for failover.json and failover.md.", "build/bench")
    return p
end

--- A primary, what can happen to it, and the server that takes over.
---@class bench.Failover
---@field name string
---@field start fun(): table
---@field url fun(set: table): string
---@field primary fun(set: table): spec.RedisServer
---@field next fun(set: table): spec.RedisServer
---@field graceful fun(set: table)
---@field key string

local SETS <const> = {
    {
        name = "cluster", start = redis_cluster.start, key = failover.tag(),
        primary = function(set) return set.nodes[1] end, next = function(set) return set.nodes[4] end,
        graceful = function(set) set.nodes[4]:cli("cluster", "failover") end,
    },
    {
        name = "sentinels", start = redis_sentinels.start, key = "f",
        primary = function(set) return set.servers[1] end, next = function(set) return set.servers[2] end,
        graceful = function(set)
            assert(redis_server.wait_until(30, function() return set:failover():find "OK" end), "no failover")
        end,
    },
}

local WAYS <const> = {
    { name = "killed", act = function(of, set) of.primary(set):kill() end,
        back = function(of, set) of.primary(set):restart() end },
    { name = "graceful", act = function(of, set) of.graceful(set) end },
    { name = "frozen", act = function(of, set) of.primary(set):freeze() end,
        back = function(of, set) of.primary(set):thaw() end },
}

local function measure(of, way, wait)
    local set <const> = of.start()
    local _ <close> = setmetatable({}, { __close = function() set:stop() end })
    local r <close> = redis.client { url = set.url, command_timeout = COMMAND_TIMEOUT }
    local probe <close> = redis.client { url = of.next(set).url, command_timeout = 1 }
    return failover.run {
        client = r, probe = probe, key = of.key, wait = wait, patience = 60, act = function() way.act(of, set) end,
        back = way.back and function() way.back(of, set) end,
    }
end

local HEAD <const> = {
    "", "primary", "WAIT", "operations", "unknown", "too few", "not sent", "failed", "acknowledged", "lost", "foreign",
    "failover", "longest outage", "behind", "longest call",
}

local function cells(one)
    local r <const> = one.result
    local function seconds(x) return ("%.2f s"):format(x) end
    return {
        one.set, one.way, one.wait and "all" or "", tostring(r.operations), tostring(r.unknown - r.few),
        tostring(r.few), tostring(r.not_sent), tostring(r.failed),
        tostring(r.acknowledged), tostring(r.lost), tostring(r.foreign), seconds(r.failover), seconds(r.outage),
        seconds(r.behind), seconds(r.longest),
    }
end

local function is_right(one)
    local r <const> = one.result
    return r.foreign == 0 and r.longest <= COMMAND_TIMEOUT + 0.5 and not (one.wait and r.lost > 0)
end

local function markdown(rows)
    local out <const> = {
        "| " .. table.concat(HEAD, " | ") .. " |", "|---|---|---|" .. ("---:|"):rep(#HEAD - 3),
    }
    for _, row in ipairs(rows) do out[#out + 1] = "| " .. table.concat(row, " | ") .. " |" end
    return table.concat(out, "\n") .. "\n"
end

local function run(args)
    local wanted
    for _, name in ipairs(args.only or {}) do
        wanted = wanted or {}
        wanted[name] = true
    end
    local list <const>, rows <const>, right = json.array {}, {}, true
    for _, of in ipairs(SETS) do
        for _, way in ipairs(WAYS) do
            if not wanted or wanted[way.name] then
                for _, wait in ipairs { false, ALL_REPLICAS } do
                    cli.note(("%s, %s%s"):format(of.name, way.name, wait and ", with WAIT" or ""))
                    local one <const> = {
                        set = of.name, way = way.name, wait = wait and wait.replicas,
                        result = measure(of, way, wait or nil),
                    }
                    list[#list + 1], rows[#rows + 1] = one, cells(one)
                    right = right and is_right(one)
                end
            end
        end
    end
    shell.must { "mkdir", "-p", args.output }
    shell.write(args.output .. "/failover.md", markdown(rows))
    shell.write(args.output .. "/failover.json", json.encode(list, { indent = 2, sort_keys = true }) .. "\n")
    local met = 0
    for _, one in ipairs(list) do met = met + (one.result.behind <= MOST_BEHIND and 1 or 0) end
    table.insert(rows, 1, HEAD)
    for _, line in ipairs(cli.table(rows)) do cli.print(line) end
    cli.print(("at most %g s behind the probe: %d of %d; written to %s/failover.{json,md}"):format(
        MOST_BEHIND, met, #list, args.output))
    return right and cli.OK or cli.FAILED
end

os.exit(cli.main("failover", function()
    local args <const>, help <const> = cli.parse(parser(), arg)
    if not args then
        cli.print(help)
        return cli.OK
    end
    for _, name in ipairs(args.only or {}) do
        local known = false
        for _, way in ipairs(WAYS) do known = known or way.name == name end
        if not known then
            require "dbrun.error".raise {
                kind = "usage", message = "--only: there is no " .. name, hint = "killed, graceful or frozen",
            }
        end
    end
    return run(args)
end), true)
