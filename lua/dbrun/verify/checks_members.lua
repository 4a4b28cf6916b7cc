--- A URL with several hosts, as for a primary and its standbys: which of them answers, and the state of the others.
--- Skipped for a single host.
local catalog <const> = require "dbrun.db.catalog"
local cli <const> = require "dbrun.command_line"
local errors <const> = require "dbrun.error"
local findings <const> = require "dbrun.verify.findings"
local limits <const> = require "dbrun.verify.limits"
local task <const> = require "dbrun.task"

local M = {}

local MOST <const> = 2 -- seconds for each host

---`start` distinguishes servers, even behind a proxy.
local WHO <const> = catalog.sql [[
select {pg_is_in_recovery}() as standby, {pg_postmaster_start_time}()::{text} as start,
       (select system_identifier::{text} from {pg_control_system}()) as system,
       case when {pg_is_in_recovery}() and ({pg_last_wal_receive_lsn}() {=} {pg_last_wal_replay_lsn}()) is not true
            then extract(epoch from {clock_timestamp}() {-} {pg_last_xact_replay_timestamp}())::{float8} end as behind,
       case when {pg_is_in_recovery}() then (select pid from {pg_stat_get_wal_receiver}()) is not null end
           as receiving]]

---The same for a service that does not offer all of it.
local ROLE <const> = catalog.sql [[
select {pg_is_in_recovery}() as standby, {pg_postmaster_start_time}()::{text} as start]]

local NOT_OFFERED <const> = { ["0A000"] = true, ["42501"] = true, ["42883"] = true }

local function who(conn)
    local ok, row = pcall(conn.one, conn, WHO)
    if ok then return row end
    if not errors.is(row) or not NOT_OFFERED[row.sqlstate] then error(row, 0) end
    return conn:one(ROLE)
end

local function split(text)
    local list = {}
    for part in ((text or "") .. ","):gmatch "([^,]*)," do list[#list + 1] = part ~= "" and part or nil end
    return list
end

---The hosts, as libpq sees them: `hostaddr` beside or in place of the names, and PGHOST, PGHOSTADDR and PGPORT if the
---URL has none.
---@return { host: string?, address: string?, port: integer? }[]
local function hosts_of(parsed)
    local list = {}
    for i, server in ipairs(parsed.hosts) do list[i] = { host = server.host, port = server.port } end
    if #list <= 1 and not (list[1] and list[1].host) and not parsed.params.hostaddr then
        local port = list[1] and list[1].port
        list = {}
        for i, host in ipairs(split(os.getenv "PGHOST")) do list[i] = { host = host, port = port } end
    end
    local addresses <const> = split(parsed.params.hostaddr or os.getenv "PGHOSTADDR")
    if #addresses > 0 and (#list <= 1 and not (list[1] and list[1].host) or #list == #addresses) then
        for i, address in ipairs(addresses) do
            local known = list[i] or {}
            list[i] = { host = known.host, port = known.port or list[1] and list[1].port, address = address }
        end
    end
    local ports <const> = split(os.getenv "PGPORT")
    for i, server in ipairs(list) do
        server.port = server.port or math.tointeger(tonumber(ports[i] or #ports == 1 and ports[1] or nil))
    end
    return list
end

---The URL with only one of its hosts, for any server role.
local function url_of(parsed, server)
    local one, params = {}, {}
    for name, value in pairs(parsed) do one[name] = value end
    for name, value in pairs(parsed.params) do params[name] = value end
    params.target_session_attrs, params.load_balance_hosts = "any", nil
    params.hostaddr = server.address or server.host
        and os.getenv "PGHOSTADDR" and server.host:find "^[%x.:]+$" and server.host or nil
    one.hosts, one.params = { { host = server.host, port = server.port or 5432 } }, params
    return require("dbrun.url").build_postgres(one)
end

---@return table? row
---@return dbrun.Error? problem
local function ask(ctx, url)
    local left = math.max(0.1, math.min(MOST, ctx.deadline - task.now()))
    local engine = require("dbrun.db").engine {
        url = url, mode = "async", size = 1, overflow = 0, connect_timeout = left, command_timeout = left,
        timeout = left, statement_cache = 0,
    }
    local _ <close> = setmetatable({}, { __close = function() engine:close() end })
    local ok, row = pcall(who, engine)
    if ok then return row end
    if not errors.is(row) or row.kind == "cancelled" then error(row, 0) end
    return nil, row
end

local function name_of(server)
    return ("%s:%s"):format(server.host or server.address or "local socket", tostring(server.port or 5432))
end

---The start time of the server that the other checks' connection has reached; nil when none was.
local function answering(ctx)
    if not ctx.conn then return nil end
    local ok, row = pcall(who, ctx.conn)
    if ok then return row.start end
    if not errors.is(row) or row.kind == "cancelled" then error(row, 0) end
    return nil
end

local function judge_standby(found, ctx, name, row)
    local status, limit = limits.judge(ctx, "postgres.replication", row.behind or 0)
    if limit then
        found.add(status, ("%s is %s behind"):format(name, cli.duration(row.behind)),
            "select * from pg_stat_replication   (on the primary)")
    elseif row.receiving == false then
        found.add("WARN", ("%s receives nothing from a primary"):format(name),
            "check its primary_conninfo and its log")
    end
end

---Judges all members together: one primary, one cluster, and a URL that finds the primary.
local function judge_all(found, ctx, parsed, primaries, standbys, systems)
    if #primaries > 1 then
        found.add("FAIL", "several members take writes: " .. table.concat(primaries, ", "),
            "stop the one that is not to be the primary, before what is written there is lost")
    elseif #primaries == 0 and #standbys > 0 and ctx.expect.writable ~= false then
        found.add("FAIL", "no member that answers is a primary: writing fails",
            "start the primary, or: select pg_promote()   (on one standby)")
    end
    if #systems > 1 then
        found.add("FAIL", "the members are not of one cluster: their system identifiers differ",
            "correct the hosts in DATABASE_URL")
    end
    local attrs = parsed.params.target_session_attrs or os.getenv "PGTARGETSESSIONATTRS" or "any"
    if attrs == "any" and #standbys > 0 and ctx.expect.writable ~= false then
        found.add("WARN", "any member may answer, a standby too: writing fails there",
            "target_session_attrs=read-write in DATABASE_URL")
    end
end

---@param ctx dbrun.verify.Context
---@return dbrun.verify.Found|string
function M.members(ctx)
    local parsed = require("dbrun.url").parse_postgres(ctx.config.async_database_url, "DATABASE_URL")
    local hosts <const> = hosts_of(parsed)
    if #hosts < 2 then return { status = "SKIP", text = "the URL names one host" } end
    local said, jobs = {}, {}
    for i, server in ipairs(hosts) do
        jobs[i] = function()
            local row, problem = ask(ctx, url_of(parsed, server))
            said[i] = { row = row, problem = problem }
        end
    end
    task.all(jobs)
    local here = answering(ctx)
    local found, texts, primaries, standbys, systems, seen = findings.new(), {}, {}, {}, {}, {}
    for i, server in ipairs(hosts) do
        local name, row = name_of(server), said[i].row
        local first = row and seen[row.start .. (row.system or "")]
        if not row then
            texts[i] = name .. " does not answer"
            found.add("WARN", ("%s does not answer: %s"):format(name, said[i].problem.message),
                ("pg_isready -h %s -p %s"):format(server.address or server.host, tostring(server.port or 5432)))
        elseif first then
            texts[i] = ("%s is %s"):format(name, first) -- two names of one server
        else
            seen[row.start .. (row.system or "")] = name
            local list = row.standby and standbys or primaries
            list[#list + 1] = name
            texts[i] = ("%s %s%s"):format(row.standby and "standby" or "primary", name,
                row.start == here and " (answers)" or "")
            if row.standby then judge_standby(found, ctx, name, row) end
            if row.system and not systems[row.system] then
                systems[#systems + 1], systems[row.system] = row.system, true
            end
        end
    end
    if #primaries + #standbys == 0 then return { status = "SKIP", text = "no member answers" } end
    judge_all(found, ctx, parsed, primaries, standbys, systems)
    return found.result(table.concat(texts, ", "), { primaries = primaries, standbys = standbys })
end
return M
