--- The stack's PostgreSQL: initdb, start, ping, stop.

local daemon = require "dbrun.stack.daemon"
local errors = require "dbrun.error"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local programs = require "dbrun.stack.programs"
local segments = require "dbrun.stack.segments"
local task = require "dbrun.task"

local M = { title = "PostgreSQL" }

local owner <const>, database <const> = "dbrun", "dbrun"
local start_limit <const> = 60 -- seconds, including crash recovery

local function data_of(place) return place.data .. "/postgres" end
local function log_of(place) return place.data .. "/postgres.log" end
local function ids(place) return place.user and place.user.uid, place.user and place.user.gid end

--- The URL of a database of the stack, short and without characters that are special to a shell.
---@param place dbrun.stack.Place
---@param name? string
---@return string
function M.url(place, name)
    local host = place.sockets:gsub("[^%w%-%._~]", function(c) return ("%%%02X"):format(c:byte()) end)
    return ("postgresql://%s@/%s?host=%s"):format(owner, name or database, host)
end

--- The same with all parameters that the environment (PGPORT, PGTARGETSESSIONATTRS, PGGSSENCMODE) could otherwise
--- change.
---@param place dbrun.stack.Place
---@param name? string
---@return string
function M.full_url(place, name)
    return M.url(place, name) .. "&port=5432&target_session_attrs=any&gssencmode=disable"
end

--- The variables by which libpq's programs find the stack's database.
---@param place dbrun.stack.Place
---@return table<string, string>
function M.variables(place)
    return { PGHOST = place.sockets, PGPORT = "5432", PGUSER = owner, PGDATABASE = database }
end

-- ---- making a cluster -----------------------------------------------------------------------------

--- After a failure the folder is removed here, not by initdb (--no-clean), because it also shows which shared memory is
--- left.
local function initdb(place, pg, dir, locale)
    local uid, gid = ids(place)
    return process.run {
        pg.bindir .. "/initdb", "-D", dir, "-U", owner, "-A", "trust", "-E", "UTF8", "--locale=" .. locale, "-N",
        "--no-clean",
        cwd = place.data, uid = uid, gid = gid, env = programs.environment(), stderr = "stdout", timeout = 120,
    }
end

--- The folder with the control files of extensions, as initdb shows it.
local function share_folder(place, pg)
    local uid, gid = ids(place)
    local shown = process.run {
        pg.bindir .. "/initdb", "--show", "-D", "/", cwd = "/", uid = uid, gid = gid, env = programs.environment(),
        stderr = "stdout", timeout = 10,
    }
    return shown.stdout:match "share_path=([^\n]+)"
end

--- Whether the server of this new cluster can preload the library. Tested, because only the server knows the library's
--- folder.
local function can_preload(place, pg, dir, library)
    local uid, gid = ids(place)
    return process.run {
        pg.bindir .. "/postgres", "--single", "-D", dir, "-c", "shared_preload_libraries=" .. library, "postgres",
        cwd = place.data, uid = uid, gid = gid, env = programs.environment(), stderr = "stdout", timeout = 60,
    }.ok
end

--- Settings beside those of the command line. TimescaleDB must be preloaded.
local function settings(place, pg, dir)
    local lines = { "", "# dbrun", "max_connections = 200" }
    local share = share_folder(place, pg)
    local there = share and fs.exists(share .. "/extension/timescaledb.control")
    if there and can_preload(place, pg, dir, "timescaledb") then
        lines[#lines + 1] = "shared_preload_libraries = 'timescaledb'"
        lines[#lines + 1] = "timescaledb.telemetry_level = off"
    end
    return table.concat(lines, "\n") .. "\n"
end

local function append(path, text)
    local f <close> = assert(io.open(path, "a"))
    assert(f:write(text))
    assert(f:close())
end

--- Removes an unfinished cluster. When an `up` is killed, its initdb dies too, but the server that initdb started may
--- write a moment longer: such processes are ended first, and the folder is removed once more. Their shared memory is
--- removed while the folder still says which it is.
local function remove_unfinished(place, dir)
    local problem
    local gone = daemon.poll(5, function()
        local alive = false
        -- initdb first: when its server ends, initdb removes the folder, and with it the record of the shared memory.
        for _, one in ipairs { { "initdb", place.data }, { "postgres", dir } } do
            for _, p in ipairs((daemon.processes(one[1], one[2]))) do
                process.kill(p.pid, "KILL")
                alive = true
            end
        end
        if alive then return false end
        segments.remove(dir, place.user)
        local ok
        ok, problem = pcall(fs.rmtree, dir)
        return ok
    end)
    if not gone then error(problem, 0) end
end

--- Makes the cluster under another name and renames it when it is complete, so that a folder with the right name is
--- complete even after a crash.
local function make(place, pg)
    for _, name in ipairs(fs.list(place.data)) do
        if name:find("^postgres%.new") then remove_unfinished(place, fs.join(place.data, name)) end
    end
    local dir = ("%s.new.%d"):format(data_of(place), process.pid())
    local _ <close> = setmetatable({}, { __close = function()
        if fs.exists(dir) then remove_unfinished(place, dir) end
    end })
    local result = initdb(place, pg, dir, "C.UTF-8")
    if not result.ok and result.stdout:find("invalid locale", 1, true) then
        fs.rmtree(dir)
        result = initdb(place, pg, dir, "C")
    end
    if not result.ok then
        local space = fs.free_space(place.data)
        errors.raise {
            kind = "io",
            message = ("initdb could not make a PostgreSQL cluster in '%s'"):format(place.data),
            detail = daemon.last_lines(result.stdout, 8),
            hint = space < 100 * 1024 * 1024
                and ("only %d MB are free there; a new cluster takes about 60"):format(space // (1024 * 1024)) or nil,
        }
    end
    append(dir .. "/postgresql.conf", settings(place, pg, dir))
    fs.rename(dir, data_of(place))
end

-- ---- looking --------------------------------------------------------------------------------------

---@return integer? pid
---@return string? state such as "ready", "starting"
local function pid_file(place)
    local path = data_of(place) .. "/postmaster.pid"
    local f <close> = io.open(path, "rb")
    if not f then return nil end
    local text = f:read("a") or ""
    local lines = {}
    for line in (text .. "\n"):gmatch("([^\n]*)\n") do lines[#lines + 1] = line end
    return math.tointeger(tonumber(lines[1])), lines[8] and lines[8]:match("^%a+")
end

--- The pid of the stack's server; nil when it does not run.
---@param place dbrun.stack.Place
---@return integer? pid
---@return string? state
function M.running(place)
    local pid, state = pid_file(place)
    if pid and daemon.works_in(pid, "postgres", data_of(place)) then return pid, state end
    return nil
end

--- postmaster.pid keeps two servers from using the same data. It is removed only when it names a foreign process and no
--- server works on the data; processes left by a killed server are ended first.
local function clear_remains(place)
    local dir = data_of(place)
    local found, unclear = daemon.processes("postgres", dir)
    if #found > 0 then
        daemon.poll(2, function()
            found = daemon.processes("postgres", dir)
            return #found == 0
        end)
    end
    for _, signal in ipairs { "TERM", "KILL" } do
        for _, p in ipairs(found) do process.kill(p.pid, signal) end
        for _, p in ipairs(found) do daemon.wait_gone(p.pid, nil, 3) end
        found = daemon.processes("postgres", dir)
    end
    -- No server runs, and the folder of the sockets is private, so files in it are left over.
    if place.sockets then
        fs.unlink(place.sockets .. "/.s.PGSQL.5432.lock")
        fs.unlink(place.sockets .. "/.s.PGSQL.5432")
    end
    -- The server itself ignores the pid of a process that does not exist. The pid of a zombie (a container may have no
    -- init) or of a foreign process would keep it from starting.
    local pid = pid_file(place)
    if not pid or not process.info(pid) then return end
    for _, other in ipairs(unclear) do
        if other == pid then
            errors.fail("io", ("process %d may be a PostgreSQL server on '%s'"):format(pid, dir),
                "if it is not, remove the file postmaster.pid there")
        end
    end
    segments.remove(dir, place.user) -- the server would have found it by this file
    fs.unlink(dir .. "/postmaster.pid")
end

-- ---- starting -------------------------------------------------------------------------------------

local function launch(place, pg)
    local uid, gid = ids(place)
    local log = log_of(place)
    local size = daemon.rotate(log)
    local dir = data_of(place)
    local child = process.start {
        pg.bindir .. "/postgres", "-D", dir, "-c", "listen_addresses=", "-c", "port=5432",
        "-c", "unix_socket_permissions=0700",
        "-c", "dynamic_shared_memory_type=mmap", -- in the data: a killed server leaves nothing in /dev/shm
        "-c", ('unix_socket_directories="%s"'):format(place.sockets:gsub('"', '""')),
        cwd = dir, uid = uid, gid = gid, env = programs.environment(), detached = true,
        stdout = { append = log }, stderr = "stdout",
    }
    if place.user then fs.chown(log, uid, gid) end
    return child, size
end

local function major_of(dir)
    local path = dir .. "/PG_VERSION"
    if not fs.exists(path) then
        errors.fail("io", ("'%s' is not a PostgreSQL cluster: PG_VERSION is missing"):format(dir),
            "start with empty data: dbrun stack reset")
    end
    return math.tointeger(tonumber(fs.read(path):match("^%d+")))
end

--- Runs one query. Returns true, or nil and the error.
local function ask(place, name, seconds)
    local options <const> = require "dbrun.db.options"
    local ok, problem = pcall(function()
        local engine = options.real {
            url = M.full_url(place, name), size = 1, overflow = 0, timeout = seconds, connect_timeout = seconds,
            command_timeout = seconds, application_name = "dbrun stack",
        }
        local _ <close> = setmetatable({}, { __close = function() engine:close() end })
        assert(engine:value("select 1") == 1, "select 1 did not return 1")
    end)
    if ok then return true end
    if errors.is(problem, "cancelled") then error(problem, 0) end
    return nil, problem
end

--- Errors when the statement of a killed `up` still runs on the server: it has made the database meanwhile, makes it at
--- the same moment, or is still reading the template.
local MADE_BY_ANOTHER <const> = { ["42P04"] = true, ["23505"] = true, ["55006"] = true }

--- Afterwards the database exists, or another statement is making it: check again.
local function make_database(place, seconds)
    local options <const> = require "dbrun.db.options"
    local engine = options.real {
        url = M.full_url(place, "postgres"), size = 1, overflow = 0, timeout = seconds, connect_timeout = seconds,
        command_timeout = seconds, application_name = "dbrun stack",
    }
    local _ <close> = setmetatable({}, { __close = function() engine:close() end })
    local ok, problem = pcall(engine.exec, engine, ("create database %s"):format(database))
    if not ok and not (errors.is(problem) and MADE_BY_ANOTHER[problem.sqlstate]) then error(problem, 0) end
end

--- Whether a retry of the query can succeed. Not when the query or the configuration is wrong, including libpq's
--- variables in the environment (PGSERVICE, PGOPTIONS).
local function waitable(problem)
    if not errors.is(problem) or problem.kind == "config" or problem.kind == "usage" then return false end
    local state <const> = problem.sqlstate
    if state then return problem.retryable or state:find "^57P" ~= nil or state == "3D000" end
    return problem.layer ~= "configuration" and problem.layer ~= "server"
end

--- Waits until the server answers a query. False when its process ended.
local function wait_ready(place, pid)
    local deadline = task.now() + start_limit
    local problem
    while true do
        local left = deadline - task.now()
        local running, state = M.running(place)
        if running and (state == "ready" or state == nil) then
            local ok
            ok, problem = ask(place, database, math.min(5, math.max(0.1, left)))
            if ok then return true end
            if problem.sqlstate == "3D000" then make_database(place, left) end
            if not waitable(problem) then error(problem, 0) end
        end
        if not process.alive(pid) then return false end
        if state == "stopping" then process.kill(pid, "INT") end
        if left <= 0 then
            errors.raise {
                kind = "timeout",
                message = ("PostgreSQL (process %d) did not answer within %d s"):format(pid, start_limit),
                detail = problem and tostring(problem) or nil,
                hint = ("its log is '%s'; dbrun stack down stops it"):format(log_of(place)),
            }
        end
        task.sleep(problem and problem.sqlstate ~= "3D000" and 0.02 or 0.004)
    end
end

local function start(place)
    local dir = data_of(place)
    local pg
    if fs.exists(dir) then
        pg = programs.postgres(major_of(dir))
        clear_remains(place)
    else
        pg = programs.postgres()
        make(place, pg)
    end
    local child <close>, size = launch(place, pg)
    if wait_ready(place, child.pid) then return end
    errors.raise {
        kind = "io", message = "PostgreSQL did not start",
        detail = daemon.log_since(log_of(place), size, 8),
        hint = ("the whole log is '%s'"):format(log_of(place)),
    }
end

--- Starts the server if needed, until it answers. The caller holds the stack's lock.
---@param place dbrun.stack.Place
---@return boolean started false = it ran already
function M.up(place)
    local pid, state = M.running(place)
    if pid and state == "ready" and fs.exists(place.sockets .. "/.s.PGSQL.5432") then
        if ask(place, database, 5) then return false end
    end
    if pid then
        if not fs.exists(place.sockets .. "/.s.PGSQL.5432") and state == "ready" then
            M.down(place) -- its socket was removed: clients cannot reach it
        elseif wait_ready(place, pid) then
            return false
        end
    end
    start(place)
    return true
end

--- Stops the server: fast shutdown, then immediate, then SIGKILL.
---@param place dbrun.stack.Place
---@return boolean stopped false = it did not run
function M.down(place)
    local pid = M.running(place)
    if not pid then return false end
    process.kill(pid, "CONT")
    if not daemon.stop(pid, { { "INT", 20 }, { "QUIT", 5 }, { "KILL", 5 } }) then
        errors.fail("timeout", ("PostgreSQL (process %d) cannot be stopped"):format(pid))
    end
    return true
end

--- Ends what is left of servers that were killed, before the data is removed.
---@param place dbrun.stack.Place
function M.forget(place)
    for _, name in ipairs(fs.list(place.data)) do
        if name:find("^postgres%.new") then remove_unfinished(place, fs.join(place.data, name)) end
    end
    local there = fs.stat(data_of(place), true)
    if not there or there.kind ~= "folder" then return end -- a link leads to what is not the stack's
    clear_remains(place)
    segments.remove(data_of(place), place.user)
end

--- The line for `status`.
---@param place dbrun.stack.Place
---@return boolean up
---@return string text
function M.status(place)
    local pid = M.running(place)
    if not pid then return false, "is down" end
    local ok, problem = ask(place, database, 5)
    if ok then return true, ("answers, process %d"):format(pid) end
    return false, ("process %d does not answer: %s"):format(pid, problem.message or tostring(problem))
end

return M
