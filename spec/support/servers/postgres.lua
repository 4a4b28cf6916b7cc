--- Real PostgreSQL servers for specs; each uses a copy of a cluster that is made once.

local daemon = require "dbrun.stack.daemon"
local errors = require "dbrun.error"
local folder = require "spec.support.servers.folder"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local programs = require "dbrun.stack.programs"
local psql = require "spec.support.servers.psql"

local M = {}

local start_limit <const> = 30
local template_version <const> = 5 -- increment it whenever make_template changes

---@class spec.PostgresOptions
---@field settings? table<string, string|number> lines of postgresql.conf
---@field hba? string contents of pg_hba.conf; default: all connections are trusted
---@field tcp? boolean also listen on 127.0.0.1
---@field major? integer default: the newest installed version
---@field standby_of? spec.Postgres it follows this one, as a hot standby made by pg_basebackup

---@class spec.Postgres
---@field url string of its database `postgres`, as the superuser
---@field superuser_url string
---@field user string the superuser
---@field dir string
---@field data string
---@field sockdir string
---@field port integer
---@field tcp_port integer? with tcp
---@field pid integer? while it runs
local Postgres = {}
local meta = { __index = Postgres, __name = "spec.Postgres" }

local superuser <const> = "dbrun"

local function encode(text)
    return (tostring(text):gsub("[^%w%-%._~]", function(c) return ("%%%02X"):format(c:byte()) end))
end

-- ---- the template ----------------------------------------------------------------------------------

--- Removes free space maps and visibility maps, a quarter of a cluster's files: relations do not need them.
local function remove_maps(cluster)
    for _, database in ipairs(fs.list(cluster .. "/base")) do
        local dir = cluster .. "/base/" .. database
        for _, name in ipairs(fs.list(dir)) do
            if name:find "_fsm$" or name:find "_vm$" then fs.unlink(dir .. "/" .. name) end
        end
    end
end

--- Removes WAL segments that were made for later use; the first one is in use.
local function remove_spare_log(cluster)
    local names = {}
    for _, name in ipairs(fs.list(cluster .. "/pg_wal")) do
        if name:find "^%x+$" then names[#names + 1] = name end
    end
    table.sort(names)
    for i = 2, #names do fs.unlink(cluster .. "/pg_wal/" .. names[i]) end
end

--- Moves the folder of the database template0 (the second that initdb makes) out of the cluster: nobody can connect to
--- it, so nobody writes there, and the copies can share its files.
--- Not template1: autovacuum works there even when connections are not allowed.
local function take_template0(cluster, to)
    local databases = {}
    for _, name in ipairs(fs.list(cluster .. "/base")) do databases[#databases + 1] = math.tointeger(tonumber(name)) end
    table.sort(databases)
    fs.mkdir(to)
    fs.rename(("%s/base/%d"):format(cluster, databases[2]), ("%s/%d"):format(to, databases[2]))
end

--- The template is small, because it is copied for each server: a WAL segment has 1 MB instead of 16.
local function make_template(pg, path)
    local uid, gid = folder.ids()
    local temporary = ("%s.new.%d"):format(path, process.pid())
    fs.rmtree(temporary)
    local _ <close> = setmetatable({}, { __close = function() fs.rmtree(temporary) end })
    folder.make(temporary)
    local result = process.run {
        pg.bindir .. "/initdb", "-D", temporary .. "/data", "-U", superuser, "-A", "trust", "-E", "UTF8",
        "--locale=C.UTF-8", "-N", "--wal-segsize=1", uid = uid, gid = gid, cwd = "/", env = programs.environment(),
        stderr = "stdout", timeout = 120,
    }
    if not result.ok then
        errors.raise { kind = "io", message = "initdb failed", detail = daemon.last_lines(result.stdout, 10) }
    end
    remove_maps(temporary .. "/data")
    remove_spare_log(temporary .. "/data")
    take_template0(temporary .. "/data", temporary .. "/template0")
    fs.rename(temporary, path)
end

--- Programs that clean temporary folders by age remove single files, so an old template is not used.
local function usable(path)
    local there = fs.stat(path .. "/data/PG_VERSION")
    return there and os.time() - there.mtime < 2 * 24 * 3600
end

local function template(pg)
    local path = ("%s/pg%d-%d"):format(folder.base(), pg.major, template_version)
    if usable(path) then return path end
    local lock <close> = fs.lock(path .. ".lock", 120)
    assert(lock, "another run has been making the template for 120 s")
    if not usable(path) then
        fs.rmtree(path)
        make_template(pg, path)
    end
    return path
end

local COPY <const> = 'cp -a --reflink=auto "$1/data" "$2" && cp -al "$1"/template0/* "$2/base"'

local function copy(from, to)
    local result = process.run { "sh", "-c", COPY, "sh", from, to, timeout = 60 }
    if not result.ok then errors.raise { kind = "io", message = "cp failed", detail = result.stderr } end
end

--- Path of a client program: the server version's own, or the one in PATH when the server has no client programs.
---@param name string
---@return string
function Postgres:client(name)
    local path = self.bindir .. "/" .. name
    return fs.exists(path) and path or assert(programs.which(name), name .. " is not installed")
end

local function base_backup(self, primary)
    local uid, gid = folder.ids()
    local result = process.run {
        self:client "pg_basebackup", "-D", self.data, "-d", primary:address(), "-R", "-X", "stream", "-c", "fast",
        "--no-sync", uid = uid, gid = gid, cwd = "/", env = programs.environment(), timeout = 60,
    }
    if not result.ok then errors.raise { kind = "io", message = "pg_basebackup failed", detail = result.stderr } end
end

-- ---- its configuration -----------------------------------------------------------------------------

local function configuration(self, opts)
    local values = {
        unix_socket_directories = self.sockdir, listen_addresses = opts.tcp and "127.0.0.1" or "",
        port = self.port, fsync = "off", shared_buffers = "16MB", max_wal_size = "1GB", max_connections = 100,
        log_min_messages = "info", log_line_prefix = "%m [%p] ", log_connections = "on",
        dynamic_shared_memory_type = "mmap", -- a killed server would leave its memory in /dev/shm forever
    }
    if opts.standby_of then
        values.primary_conninfo = ("host=%s port=%d user=%s"):format(opts.standby_of.sockdir, opts.standby_of.port,
            superuser)
    end
    for name, value in pairs(opts.settings or {}) do values[name] = value end
    local lines = {}
    for name, value in pairs(values) do
        lines[#lines + 1] = ("%s = '%s'"):format(name, (tostring(value):gsub("'", "''")))
    end
    table.sort(lines)
    return table.concat(lines, "\n") .. "\n"
end

local function write_owned(path, text)
    fs.write(path, text, tonumber("600", 8))
    if folder.user then fs.chown(path, folder.ids()) end
end

-- ---- life ------------------------------------------------------------------------------------------

local function state(self)
    local f <close> = io.open(self.data .. "/postmaster.pid", "rb")
    local lines = {}
    for line in ((f and f:read("a") or "") .. "\n"):gmatch("([^\n]*)\n") do lines[#lines + 1] = line end
    return math.tointeger(tonumber(lines[1])) == self.pid and lines[8] and lines[8]:match("^%a+")
end

--- Removes the small segment of System V shared memory that a killed server leaves: no server reuses it once its folder
--- is removed, and the system allows only a few thousand. Does not wait, so it can run when the program ends.
function Postgres:free_memory()
    local f <close> = io.open(self.data .. "/postmaster.pid", "rb")
    local key, id = (f and f:read "a" or ""):match "\n *(%d+) +(%d+)\n"
    for line in key and io.lines "/proc/sysvipc/shm" or function() end do
        local its_key, its_id, users = line:match "^ *(%-?%d+) +(%d+) +%d+ +%d+ +%d+ +%d+ +(%d+)"
        if its_key == key and its_id == id and users == "0" then
            assert(os.execute("ipcrm -m " .. id), "the shared memory of a spec's server cannot be removed")
        end
    end
end

--- Starts it and waits until it accepts connections.
function Postgres:start()
    if self.child then return self end
    local uid, gid = folder.ids()
    local before = fs.stat(self.logfile)
    self.child = process.start {
        self.bindir .. "/postgres", "-D", self.data, cwd = self.data, uid = uid, gid = gid,
        env = programs.environment(), pdeathsig = "QUIT", stdout = { append = self.logfile }, stderr = "stdout",
    }
    self.pid = self.child.pid
    local answer = daemon.poll(start_limit, function()
        if not self.child:running() then return "ended" end
        local now = state(self)
        return (now == "ready" or now == "standby") and "ready"
    end)
    if answer == "ready" then return self end
    local log = daemon.log_since(self.logfile, before and before.size or 0, 10)
    self:forget()
    return errors.raise { kind = "io", message = "the PostgreSQL of a spec did not start", detail = log }
end

function Postgres:forget()
    if self.child then self.child:close() end
    self.child, self.pid = nil, nil
end

local stop_signals <const> = { smart = "TERM", fast = "INT", immediate = "QUIT" }

--- Stops it and waits until it has ended.
---@param mode? "smart"|"fast"|"immediate" default "fast"
function Postgres:stop(mode)
    if not self.child then return self end
    local signal = assert(stop_signals[mode or "fast"], "smart, fast or immediate expected")
    self.child:kill("CONT")
    self.child:kill(signal)
    if not self.child:wait(30) then errors.raise { kind = "timeout", message = "PostgreSQL does not stop" } end
    self:forget()
    return self
end

---@param mode? "smart"|"fast"|"immediate"
function Postgres:restart(mode)
    return self:stop(mode):start()
end

--- Sends a signal to the postmaster. After KILL, QUIT, INT and TERM waits until all its processes have ended.
---@param signal string
function Postgres:kill(signal)
    self.child:kill(signal)
    if signal:find("STOP$") or signal:find("CONT$") or signal:find("HUP$") then return self end
    if not self.child:wait(30) then errors.raise { kind = "timeout", message = "PostgreSQL does not end" } end
    daemon.poll(10, function() return #daemon.processes("postgres", self.data) == 0 end)
    self:forget()
    return self
end

--- Promotes a standby, and waits until it accepts writes.
function Postgres:promote()
    assert(self:psql "select pg_promote(true, 30)" == "t", "the standby was not promoted")
    return self
end

--- Waits until this standby has replayed everything that `primary` has written so far.
---@param primary spec.Postgres
function Postgres:catch_up(primary)
    local lsn = primary:psql "select pg_current_wal_lsn()"
    local there = daemon.poll(start_limit, function()
        return self:psql(("select pg_last_wal_replay_lsn() >= '%s'"):format(lsn)) == "t"
    end)
    assert(there, "the standby does not catch up")
    return self
end

--- Process numbers of the server's children (backends and workers).
---@return integer[]
function Postgres:children()
    local pids = {}
    for _, p in ipairs((daemon.processes("postgres", self.data))) do
        if p.ppid == self.pid then pids[#pids + 1] = p.pid end
    end
    return pids
end

--- Everything it has written to its log.
---@return string
function Postgres:log()
    return fs.exists(self.logfile) and fs.read(self.logfile) or ""
end

--- The URL of a user and a database on it.
---@param opts? {user: string, password: string, database: string, tcp: boolean, host: string, params: table}
---@return string
function Postgres:address(opts)
    opts = opts or {}
    local user = encode(opts.user or superuser) .. (opts.password and (":" .. encode(opts.password)) or "")
    local params = {}
    for name, value in pairs(opts.params or {}) do params[#params + 1] = name .. "=" .. encode(value) end
    table.sort(params)
    local where = ""
    if opts.tcp or opts.host then
        where = ("%s:%d"):format(opts.host or "127.0.0.1", self.tcp_port or self.port)
    else
        table.insert(params, 1, "host=" .. encode(self.sockdir))
        if self.port ~= 5432 then table.insert(params, 2, "port=" .. self.port) end
    end
    local query = #params > 0 and ("?" .. table.concat(params, "&")) or ""
    return ("postgresql://%s@%s/%s%s"):format(user, where, encode(opts.database or "postgres"), query)
end

--- Runs SQL as the superuser with psql, or as psql would, without the code under test.
---@param sql string
---@param database? string
---@return string output rows as lines, columns apart by "|"
function Postgres:psql(sql, database)
    return psql.ask(self:client "psql", self:address { database = database }, sql)
end

--- The same over a connection that is kept until another database is asked, because starting a backend costs more than
--- most statements. Only for databases that no spec drops or copies, and where one more idle backend does no harm.
---@param sql string
---@param database? string
---@return string output
function Postgres:stay(sql, database)
    return psql.ask(self:client "psql", self:address { database = database }, sql, true)
end

--- Stops it and removes its folder.
function Postgres:close()
    if self.closed then return end
    self.closed = true
    self:stop("immediate")
    fs.rmtree(self.dir)
end

meta.__close = Postgres.close

--- Starts a separate server. `local pg <close> = servers.postgres{}`.
---@param opts? spec.PostgresOptions
---@return spec.Postgres
function M.new(opts)
    opts = opts or {}
    local pg = programs.postgres(opts.major)
    local dir = folder.new("p")
    local self = setmetatable({
        bindir = pg.bindir, major = pg.major, dir = dir, data = dir .. "/data", sockdir = dir, user = superuser,
        logfile = dir .. "/log", port = opts.tcp and folder.free_port() or 5432,
    }, meta)
    self.tcp_port = opts.tcp and self.port or nil
    if opts.standby_of then
        base_backup(self, opts.standby_of)
    else
        copy(template(pg), self.data)
    end
    write_owned(self.data .. "/postgresql.auto.conf", configuration(self, opts))
    if opts.hba then write_owned(self.data .. "/pg_hba.conf", opts.hba .. "\n") end
    self.url, self.superuser_url = self:address(), self:address()
    return self:start()
end

return M
