--- Several servers of Redis that work together: a cluster, or a master with its sentinels. Skipped for a single server.
local cli <const> = require "dbrun.command_line"
local errors <const> = require "dbrun.error"
local findings <const> = require "dbrun.verify.findings"
local task <const> = require "dbrun.task"

local M = {}

-- ---- asking one server of several ----

local ANSWER <const> = 2 -- seconds that one server can take

local SHARED <const> = { "username", "password", "tls", "verify", "verify_hostname", "ca_file", "ca_dir", "cert_file",
    "key_file", "min_version" }

---The settings of the URL for one server.
local function settings_for(ctx, host, port)
    local parsed <const> = require("dbrun.redis.options").pool({ url = ctx.config.redis_url }, "redis.client")
    local settings = { host = host, port = port, connect_timeout = ANSWER / 2, command_timeout = ANSWER,
        max_connections = 2 }
    for _, name in ipairs(SHARED) do settings[name] = parsed[name] end
    return settings, parsed
end

---Sends commands to one server. An error reply is an element of the list.
---@return table? replies
---@return dbrun.Error? problem
local function ask(settings, commands)
    local client = require("dbrun.redis").client(settings)
    local _ <close> = setmetatable({}, { __close = function() client:close() end })
    local ok, replies = pcall(task.timeout, ANSWER, client.pipeline, client, function(p)
        for _, command in ipairs(commands) do p:call(table.unpack(command)) end
    end)
    if ok then return replies end
    if not errors.is(replies) or replies.kind == "cancelled" then error(replies, 0) end
    return nil, replies
end

---Calls fn for each element of the list concurrently.
local function each(list, fn)
    local jobs = {}
    for i, entry in ipairs(list) do
        jobs[i] = function() fn(entry) end
    end
    if #jobs > 0 then task.all(jobs) end
end

local function fields(reply)
    if type(reply) ~= "table" or errors.is(reply) then return nil end
    local found = {}
    for i = 1, #reply - 1, 2 do found[reply[i]] = reply[i + 1] end
    for name, value in pairs(reply) do
        if type(name) == "string" then found[name] = value end
    end
    return found
end

local function lines_of(text)
    local found = {}
    for name, value in tostring(text):gmatch "([%w_]+):([^\r\n]*)" do found[name] = value end
    return found
end

local function kind_of(ctx)
    return require("dbrun.url").parse_redis(ctx.config.redis_url, "REDIS_URL")
end

-- ---- a cluster ----

local SLOTS <const> = 16384

---@return { id: string, host: string, port: integer, flags: table<string, boolean>, of: string, slots: integer,
---    open: string[] }[]
local function nodes_of(text, seed, by_name)
    local nodes = {}
    for line in tostring(text):gmatch "[^\r\n]+" do
        local id, address, words, of, rest = line:match "^(%S+) (%S+) (%S+) (%S+) %S+ %S+ %S+ %S+ ?(.*)$"
        local host, port = (address or ""):match "^(.*):(%d+)@"
        local hostname = by_name and (address or ""):match "^[^,]*,([^,=]+)"
        if id then
            host = hostname or host
            local node = { id = id, host = host ~= "" and host or seed.host, port = math.tointeger(tonumber(port)),
                flags = {}, of = of, slots = 0, open = {} }
            for word in words:gmatch "[^,]+" do node.flags[word] = true end
            for word in rest:gmatch "%S+" do
                local first, last = word:match "^(%d+)%-?(%d*)$"
                if first then
                    node.slots = node.slots + (last == "" and 1 or tonumber(last) - tonumber(first) + 1)
                else
                    node.open[#node.open + 1] = word
                end
            end
            nodes[#nodes + 1] = node
        end
    end
    return nodes
end

local function name_of(node) return ("%s:%s"):format(tostring(node.host), tostring(node.port)) end

---Whether the other nodes have marked a node as failed.
local function judge_flags(found, node)
    local role = node.flags.master and "master" or "replica"
    if node.flags.fail or node.flags.noaddr then
        found.add(node.flags.master and node.slots > 0 and "FAIL" or "WARN",
            ("%s (%s) has failed"):format(name_of(node), role),
            ("start it again, or: redis-cli --cluster del-node %s %s"):format(name_of(node), node.id))
    elseif node.flags["fail?"] then
        found.add("WARN", ("%s (%s) is perhaps down: one node does not reach it"):format(name_of(node), role),
            ("redis-cli -h %s -p %s ping"):format(tostring(node.host), tostring(node.port)))
    end
end

---What a master reports about itself: migrating slots, connected replicas.
local function judge_master(found, node, said)
    if said.problem then
        found.add("FAIL", ("%s does not answer: %s"):format(name_of(node), said.problem.message),
            ("redis-cli -h %s -p %s ping"):format(tostring(node.host), tostring(node.port)))
        return
    end
    if #said.open > 0 then
        found.add("WARN", ("%s: %s being moved: %s"):format(name_of(node), cli.plural(#said.open, "slot is",
            "slots are"), table.concat(said.open, " ", 1, math.min(#said.open, 3))),
            ("redis-cli --cluster check %s; --cluster fix %s   (when nothing moves them any more)"):format(
                name_of(node), name_of(node)))
    end
    if said.hidden then
        found.add("WARN", ("cannot see the replicas of %s: %s"):format(name_of(node), said.hidden),
            "acl setuser ... +info")
    end
    if node.slots > 0 and said.replicas == 0 then
        found.add("WARN", ("%s has no replica that follows it: its slots are lost with it"):format(name_of(node)),
            ("redis-cli --cluster add-node HOST:PORT %s --cluster-slave --cluster-master-id %s"):format(
                name_of(node), node.id))
    end
end

---The number of connected replicas in INFO.
local function linked(info)
    local n = 0
    for text in tostring(info):gmatch "slave%d+:([^\r\n]*)" do
        if text:find("state=online", 1, true) then n = n + 1 end
    end
    return n
end

---@return table? replies of the first node that answers: CLUSTER INFO, CLUSTER NODES
local function first_answer(ctx, hosts)
    for _, seed in ipairs(hosts) do
        local replies = ask(settings_for(ctx, seed.host, seed.port), { { "CLUSTER", "INFO" }, { "CLUSTER", "NODES" } })
        if replies then return replies, seed end
    end
end

---@param ctx dbrun.verify.Context
---@return dbrun.verify.Found|string
function M.cluster(ctx)
    local url = kind_of(ctx)
    local named = url.scheme:find "cluster" ~= nil
    local info = ctx.redis and ctx.redis.info or {}
    if not named and (info.redis_mode or info.server_mode) ~= "cluster" or url.path then
        return { status = "SKIP", text = "the server is not in a cluster" }
    end
    local replies, seed = first_answer(ctx, named and url.hosts or { { host = url.host, port = url.port } })
    if not replies then return { status = "SKIP", text = "no node answers" } end
    for _, reply in ipairs(replies) do
        if errors.is(reply) then
            return { status = "WARN", text = "unknown", cause = "cannot see the cluster: " .. reply.message,
                remedy = { ("acl setuser %s +cluster|info +cluster|nodes"):format(url.username or "default") } }
        end
    end
    local found, state = findings.new(), lines_of(replies[1])
    local nodes, masters = nodes_of(replies[2], seed, url.tls), {}
    for _, node in ipairs(nodes) do
        if node.flags.master and not node.flags.fail and not node.flags.noaddr then
            masters[#masters + 1] = node
        end
    end
    if state.cluster_state ~= "ok" then
        found.add("FAIL", ("cluster_state is %s: commands are refused"):format(tostring(state.cluster_state)),
            ("redis-cli --cluster check %s"):format(name_of(seed)))
    end
    local assigned = tonumber(state.cluster_slots_assigned) or 0
    if assigned < SLOTS then
        found.add("FAIL", ("%d of %d slots have no node"):format(SLOTS - assigned, SLOTS),
            ("redis-cli --cluster fix %s"):format(name_of(seed)))
    end
    for _, node in ipairs(nodes) do judge_flags(found, node) end
    local said = {}
    each(masters, function(node)
        local answer, problem = ask(settings_for(ctx, node.host, node.port),
            { { "CLUSTER", "NODES" }, { "INFO", "replication" } })
        local open = {}
        for _, own in ipairs(answer and nodes_of(answer[1], node) or {}) do
            if own.flags.myself then open = own.open end
        end
        said[node] = { problem = problem, open = open,
            replicas = answer and not errors.is(answer[2]) and linked(answer[2]),
            hidden = answer and errors.is(answer[2]) and answer[2].message }
    end)
    for _, node in ipairs(masters) do judge_master(found, node, said[node]) end
    if not named then
        found.add("WARN", "the URL names one node: keys of the others get MOVED",
            "redis+cluster://HOST:PORT,HOST:PORT in REDIS_URL")
    end
    return found.result(("%s, %d of %d slots"):format(cli.plural(#nodes, "node"), assigned, SLOTS),
        { nodes = #nodes, masters = #masters, slots = assigned })
end

-- ---- sentinels ----

---The report of one sentinel.
local function ask_sentinel(ctx, host, name)
    local settings, parsed = settings_for(ctx, host.host, host.port)
    settings.username, settings.password = parsed.sentinel_username, parsed.sentinel_password
    if parsed.sentinel_tls ~= nil then settings.tls = parsed.sentinel_tls end
    local replies, problem = ask(settings, { { "SENTINEL", "MASTER", name }, { "SENTINEL", "CKQUORUM", name },
        { "SENTINEL", "REPLICAS", name } })
    if not replies then return { problem = problem } end
    if errors.is(replies[1]) then return { problem = replies[1] } end
    return { master = fields(replies[1]), quorum = replies[2], replicas = replies[3] }
end

---A command to one sentinel.
local function to_sentinel(host, command)
    return ("redis-cli -h %s -p %s %s"):format(host.host, tostring(host.port), command)
end

---What is wrong with a sentinel that returned no state: silence, or a refusal.
local function silence(problem)
    local refused <const> = problem.kind == "redis" or problem.code ~= nil or problem.layer == "authentication"
    return refused and "refuses" or "does not answer", refused
end

---@return string
local function remedy_for(problem, host)
    local text <const> = problem.message
    if text:find("No such master", 1, true) then
        return "redis+sentinel://HOST:PORT/NAME in REDIS_URL: the NAME is the one in `sentinel monitor`"
    elseif text:find "NOAUTH" or text:find "WRONGPASS" or text:find "AUTH <password>" then
        return "?sentinel_password=... (and sentinel_username) in REDIS_URL, or none, as the sentinels have it"
    end
    return to_sentinel(host, "ping")
end

local function judge_quorum(found, name, said, at, host)
    if errors.is(said.quorum) and said.quorum.message:find "NOPERM" then
        found.add("WARN", ("%s: cannot see the quorum: %s"):format(at, said.quorum.message),
            "acl setuser ... +sentinel|ckquorum   (on the sentinel)")
    elseif errors.is(said.quorum) then
        found.add("FAIL", ("%s: %s"):format(at, said.quorum.message),
            to_sentinel(host, ("sentinel ckquorum %s"):format(name)) .. "; start the other sentinels")
    end
    local known = (tonumber(said.master["num-other-sentinels"]) or 0) + 1
    if known < 3 then
        found.add("WARN", ("%s knows %s: with fewer than 3 none can be lost"):format(at,
            cli.plural(known, "sentinel")), "run three sentinels, on machines of their own")
    end
    local flags = said.master.flags or ""
    if flags:find("o_down", 1, true) then
        found.add("FAIL", ("%s: the master %s is down, as the sentinels agree"):format(at, name),
            "look at the sentinels' logs: why is there no failover?")
    elseif flags:find("s_down", 1, true) then
        found.add("WARN", ("%s does not reach the master %s"):format(at, name), "look at that sentinel's network")
    end
end

local function judge_replicas(found, said, name, host)
    local replicas = type(said.replicas) == "table" and not errors.is(said.replicas) and said.replicas or {}
    for _, entry in ipairs(replicas) do
        local replica = fields(entry) or {}
        local flags = replica.flags or ""
        if flags:find("_down", 1, true) or replica["master-link-status"] == "err" then
            found.add("WARN", ("the replica %s:%s %s"):format(tostring(replica.ip), tostring(replica.port),
                flags:find("_down", 1, true) and "is down" or "does not follow the master"),
                "start it again; when it is gone for good: " .. to_sentinel(host, "sentinel reset " .. name))
        end
    end
    return #replicas
end

---Whether the server that the sentinels name says that it is the master.
local function judge_role(found, ctx, address, name, sentinel)
    local host, port = address:match "^(.*):(%d+)$"
    local replies, problem = ask(settings_for(ctx, host, math.tointeger(tonumber(port))), { { "ROLE" } })
    if not replies then
        found.add("FAIL", ("the named master %s does not answer: %s"):format(address, problem.message),
            "wait for the failover; look at its log")
        return
    end
    local role = replies[1]
    local is = type(role) == "table" and not errors.is(role) and role[1]
    if is and is ~= "master" then
        found.add("FAIL", ("the named master %s says that it is a %s"):format(address, tostring(is)),
            "a failover is going on, or the sentinels are wrong: " .. to_sentinel(sentinel, "sentinel reset " .. name))
    end
end

---@param ctx dbrun.verify.Context
---@return dbrun.verify.Found|string
function M.sentinels(ctx)
    local url = kind_of(ctx)
    if not url.scheme:find "sentinel" then return { status = "SKIP", text = "the URL names no sentinels" } end
    local found, said, addresses, named_by, answered, refused = findings.new(), {}, {}, {}, 0, nil
    each(url.hosts, function(host) said[host] = ask_sentinel(ctx, host, url.service) end)
    for _, host in ipairs(url.hosts) do
        if said[host].master then answered = answered + 1 end
        local problem = said[host].problem
        if problem and select(2, silence(problem)) then refused = refused or problem.message end
    end
    if answered == 0 and not refused then return { status = "SKIP", text = "no sentinel answers" } end
    local replicas = 0
    for _, host in ipairs(url.hosts) do
        local one, at = said[host], "sentinel " .. name_of(host)
        if one.problem then
            found.add(answered == 0 and "FAIL" or "WARN", ("%s %s: %s"):format(at, (silence(one.problem)),
                one.problem.message), remedy_for(one.problem, host))
        else
            judge_quorum(found, url.service, one, at, host)
            local address = ("%s:%s"):format(one.master.ip, one.master.port)
            if not addresses[address] then
                addresses[#addresses + 1], addresses[address] = address, true
                named_by[address] = host
                replicas = math.max(replicas, judge_replicas(found, one, url.service, host))
            end
        end
    end
    if #addresses > 1 then
        found.add("FAIL", "the sentinels name different masters: " .. table.concat(addresses, ", "),
            ("look at their logs; `sentinel reset %s` on the one that is wrong"):format(url.service))
    end
    for _, address in ipairs(addresses) do judge_role(found, ctx, address, url.service, named_by[address]) end
    if answered == 0 then return found.result(("none of %d sentinels names the master"):format(#url.hosts)) end
    return found.result(("%s of %d, master %s with %s"):format(cli.plural(answered, "sentinel"), #url.hosts,
        addresses[1], cli.plural(replicas, "replica")), { sentinels = answered, replicas = replicas })
end

return M
