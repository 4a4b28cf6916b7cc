--- A PgBouncer in front of a server, on a unix socket; it stops when its block ends.

local folder = require "spec.support.servers.folder"
local fs = require "dbrun.fs"
local pg = require "spec.support.pg"
local process = require "dbrun.process"

local M = {}

local program <const> = "/usr/sbin/pgbouncer"

---Whether PgBouncer is installed.
function M.is_there()
    return fs.exists(program)
end

---@param server spec.Postgres
---@param settings? table<string, string|number> lines of its configuration
---@return {url: string, log: fun(): string} closable
function M.start(server, settings)
    local dir = fs.mkdtemp(folder.run() .. "/b-")
    local uid, gid = folder.ids()
    local lines = {
        pool_mode = "transaction", auth_type = "any", listen_addr = "", unix_socket_dir = dir, listen_port = 6432,
        default_pool_size = 3, max_client_conn = 200, logfile = dir .. "/log", auth_file = "",
    }
    for key, value in pairs(settings or {}) do
        lines[key] = value
    end
    local text = { "[databases]", ("* = host=%s port=%d user=%s"):format(server.sockdir, server.port, server.user),
        "[pgbouncer]" }
    for key, value in pairs(lines) do
        text[#text + 1] = ("%s = %s"):format(key, value)
    end
    fs.write(dir .. "/ini", table.concat(text, "\n") .. "\n")
    if folder.user then
        fs.chown(dir, uid, gid)
        fs.chown(dir .. "/ini", uid, gid)
    end
    local child = process.start { program, "-q", dir .. "/ini", uid = uid, gid = gid, stdout = "null", stderr = "null",
        pdeathsig = "KILL" }
    local self = { url = ("postgresql://dbrun@/postgres?host=%s&port=6432"):format(dir) }
    function self.log()
        return fs.exists(dir .. "/log") and fs.read(dir .. "/log") or ""
    end
    local ok = pcall(pg.eventually, 10, function()
        local e <close> = pg.engine { url = self.url, size = 1, statement_cache = 0 }
        return (pcall(e.value, e, "select 1"))
    end)
    if not ok then
        child:close()
        error("pgbouncer does not start: " .. self.log())
    end
    return setmetatable(self, { __close = function()
        child:kill "KILL"
        child:wait(5)
        child:close()
        fs.rmtree(dir)
    end })
end

return M
