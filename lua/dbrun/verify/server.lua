--- The state of the PostgreSQL server, for all checks of the server: the facts of dbrun.verify.facts, in one query
--- where the server offers all of them.
local errors <const> = require "dbrun.error"
local facts <const> = require "dbrun.verify.facts"

local M = {}

---@class dbrun.verify.Server
---@field version string
---@field pid integer of the backend that answered
---@field sessions integer[] backends of clients
---@field hidden integer how many of them are other roles' sessions, of which this role sees nothing
---@field clock number seconds since 1970
---@field extensions table<string, string> the versions of the extensions in this database
---@field refused table<string, dbrun.Error> the groups of facts that the server does not give
---@field [string] any

local function with_connection(ctx, fn)
    if ctx.lease then return fn(ctx.lease) end
    local conn <close> = ctx.conn:acquire()
    return fn(conn)
end

---Errors of a server that does not have a function, does not let this role call it, or has a value that it cannot send.
local NOT_OFFERED <const> = {
    ["0A000"] = true, ["42501"] = true, ["42883"] = true, ["55000"] = true, ["42P01"] = true, ["42703"] = true,
    ["42704"] = true,
    ["22021"] = true, ["22P05"] = true, -- a name that is not text in the encoding of this session
}

local function not_offered(e) return errors.is(e) and NOT_OFFERED[e.sqlstate] end

---All facts in one query; when a part of it is refused, each group alone. The first group is required.
---@param conn table
---@return table facts
---@return table<string, dbrun.Error> refused
function M.gather(conn)
    local major = tonumber((conn:parameter "server_version" or ""):match "^%d+") or 0
    local groups, refused = {}, {}
    for _, group in ipairs(facts.groups) do
        if major >= (group.since or 0) then groups[#groups + 1] = group end
    end
    local ok, row = pcall(conn.one, conn, facts.sql(groups))
    if ok then return row, refused end
    if not not_offered(row) then error(row, 0) end
    local all = {}
    for i, group in ipairs(groups) do
        local fine, found = pcall(conn.one, conn, facts.sql { group })
        if fine then
            for key, value in pairs(found) do all[key] = value end
        elseif i > 1 and not_offered(found) then
            refused[group.name] = found
        else
            error(found, 0)
        end
    end
    return all, refused
end

---Seconds since 1970 by this machine's clock.
local function now() return require("dbrun.core").clock.now() / 1e6 end

---Runs the query, and measures the difference between the server's clock and this machine's.
---@param ctx dbrun.verify.Context
---@return dbrun.verify.Server
function M.ask(ctx)
    local before = now()
    local server, refused, opened_with, after = with_connection(ctx, function(conn)
        local found, missing = M.gather(conn)
        return found, missing, conn:backend_pid(), now()
    end)
    server.refused = refused
    for _, extension in ipairs(server.extensions) do server.extensions[extension[1]] = extension[2] end
    server.version = server.version:match "^%S+"
    server.clock_ahead = server.clock and server.clock - (before + after) / 2
    server.round_trip = after - before
    -- Behind a pooler, the process that answers is not the one that the connection was opened with.
    server.pooler = opened_with ~= server.pid
    return server
end

---@type dbrun.verify.Check
M.check = {
    name = "postgres.server",
    about = "the state of the server, which the other checks of the server use",
    needs = { "postgres.async" },
    on_conn = true,
    service = function(ctx) return require("dbrun.verify.checks_pg").async.service(ctx) end,
    run = function(ctx)
        ctx.server = M.ask(ctx)
        local s, cli = ctx.server, require "dbrun.command_line"
        local text = ("PostgreSQL %s, up %s, %s, max_connections %d"):format(s.version,
            s.uptime and cli.duration(s.uptime) or "for an unknown time",
            s.sessions and cli.plural(#s.sessions, "session") or "unknown sessions", s.max_connections)
        local found = { version = s.version, uptime = s.uptime, sessions = s.sessions and #s.sessions,
            max_connections = s.max_connections }
        local blind = require("dbrun.verify.server_check").blind(s)
        if not blind then return { text = text, facts = found } end
        return { status = "WARN", text = text, cause = blind.cause, remedy = blind.remedy, facts = found }
    end,
}

return M
