--- The private stack, started and stopped for real in folders of all kinds.
local core = require "dbrun.core"
local daemon = require "dbrun.stack.daemon"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local task = require "dbrun.task"

local dbrun <const> = core.options.program
local script <const> = fs.join(fs.cwd(), "scripts/stack.lua")
local is_root <const> = process.uid() == 0

local function oct(text) return tonumber(text, 8) end

--- Runs `dbrun stack ...` in a folder.
local function stack(folder, ...)
    local words = { ... }
    local spec = type(words[#words]) == "table" and table.remove(words) or {}
    local program = spec.program or { dbrun, script }
    local argv = { table.unpack(program) }
    table.move(words, 1, #words, #argv + 1, argv)
    for name, value in pairs(spec) do
        if name ~= "program" then argv[name] = value end
    end
    argv.cwd, argv.timeout = argv.cwd or folder, argv.timeout or 90
    return process.run(argv)
end

local function ok(result)
    assert.are.equal(0, result.code, result.stderr .. result.stdout)
    return result
end

local folders = {}

--- A folder that the servers' user may enter.
local function new_folder(name)
    local base = fs.mkdtemp()
    fs.chmod(base, oct "755")
    folders[#folders + 1] = base
    local folder = name and fs.join(base, name) or base
    fs.mkdir_p(folder)
    return folder, base
end

local function place_of(folder)
    local out = {}
    for line in fs.read(folder .. "/.dbrun/stack/place"):gmatch("[^\n]+") do
        local key, value = line:match("^(%w+)=(.*)$")
        out[key] = value:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end)
    end
    return out
end

local function pid_of(folder, server)
    local data = place_of(folder).data
    local file = server == "redis" and "/redis/redis.pid" or "/postgres/postmaster.pid"
    return math.tointeger(tonumber(fs.read(data .. file):match("%d+")))
end

local function servers_in(data)
    local postgres = daemon.processes("postgres", data .. "/postgres")
    local redis = daemon.processes("redis-server", data .. "/redis")
    return #postgres + #redis
end

local function urls(folder)
    local out = ok(stack(folder, "env")).stdout
    return assert(out:match("DATABASE_URL=([^\n]+)\n")), assert(out:match("REDIS_URL=([^\n]+)\n"))
end

local function psql(folder, sql)
    local r = process.run { "psql", "-XAtqw", "-d", (urls(folder)), "-c", sql, timeout = 20 }
    assert.are.equal("", r.stderr)
    return (r.stdout:gsub("\n$", ""))
end

local function redis_cli(folder, ...)
    local argv = { "redis-cli", "-s", place_of(folder).sockets .. "/redis.sock", ... }
    argv.timeout = 20
    return (process.run(argv).stdout:gsub("\n$", ""))
end

local function answers(folder)
    assert.are.equal("dbrun|dbrun", psql(folder, "select current_database(), current_user"))
    assert.are.equal("PONG", redis_cli(folder, "ping"))
end

local function clean_up()
    for _, base in ipairs(folders) do
        for _, found in ipairs(fs.exists(base) and fs.list(base) or {}) do
            local inner = fs.join(base, found)
            if fs.exists(inner .. "/.dbrun/stack/place") then stack(inner, "reset", "--force") end
        end
        if fs.exists(base .. "/.dbrun/stack/place") then stack(base, "reset", "--force") end
        fs.rmtree(base)
    end
    folders = {}
end

describe("dbrun stack", function()
    local folder

    setup(function()
        folder = new_folder()
        folders = {}
        ok(stack(folder, "up"))
    end)

    teardown(function()
        folders[#folders + 1] = folder
        clean_up()
    end)

    it("starts a PostgreSQL and a Redis that answer, with the database and the user `dbrun`", function()
        answers(folder)
    end)

    it("does nothing when both are up, which takes a few starts of a program", function()
        local before = { pid_of(folder), pid_of(folder, "redis") }
        local function seconds(run)
            local t = task.now()
            run()
            return task.now() - t
        end
        local best, empty, tries = math.huge, math.huge, 0
        while best >= 4 * empty and tries < 40 do
            tries = tries + 1
            empty = math.min(empty, seconds(function() ok(process.run { dbrun, "--no-env", "-e", "" }) end))
            best = math.min(best, seconds(function()
                local r = ok(stack(folder, "up"))
                assert.matches("PostgreSQL%s+is up already", r.stdout)
                assert.matches("Redis%s+is up already", r.stdout)
            end))
        end
        assert.are.same(before, { pid_of(folder), pid_of(folder, "redis") })
        assert.is_true(best < 4 * empty, ("%.1f ms, an empty program %.1f ms"):format(best * 1000, empty * 1000))
    end)

    it("listens on unix sockets only, which nobody else can open", function()
        assert.are.equal("", psql(folder, "show listen_addresses"))
        assert.are.equal("port\n0", redis_cli(folder, "config", "get", "port"))
        local at = place_of(folder)
        assert.are.equal(oct "700", fs.stat(at.sockets).mode)
        assert.are.equal(oct "700", fs.stat(at.data).mode)
        assert.are.equal(oct "700", fs.stat(at.sockets .. "/redis.sock").mode)
        assert.are.equal(oct "700", fs.stat(at.sockets .. "/.s.PGSQL.5432").mode)
    end)

    it("keeps data safe: fsync is on", function()
        assert.are.equal("on", psql(folder, "show fsync"))
        assert.are.equal("on", psql(folder, "show full_page_writes"))
    end)

    it("keeps itself out of version control", function()
        assert.are.equal("*\n", fs.read(folder .. "/.dbrun/.gitignore"))
    end)

    it("tells its state: exit status 0 when both answer", function()
        local r = ok(stack(folder, "status"))
        assert.matches("PostgreSQL%s+answers, process " .. pid_of(folder), r.stdout)
        assert.matches("Redis%s+answers, process " .. pid_of(folder, "redis"), r.stdout)
    end)

    it("prints lines that a shell can evaluate", function()
        local code = [[print(os.getenv "DATABASE_URL") print(os.getenv "REDIS_URL")]]
        local r = process.run {
            "sh", "-c", 'eval "$("$0" "$1" env --export)"; exec "$0" -e "$2"', dbrun, script, code, cwd = folder,
        }
        local pg, redis_url = urls(folder)
        assert.are.equal(pg .. "\n" .. redis_url .. "\n", r.stdout)
    end)

    it("runs a command with the addresses, its arguments and its exit status untouched", function()
        local code = 'echo "$DATABASE_URL|$REDIS_URL|$1|$2"; exit 7'
        local r = stack(folder, "run", "--", "sh", "-c", code, "sh", "a b", "--help")
        local pg, redis_url = urls(folder)
        assert.are.equal(("%s|%s|a b|--help\n"):format(pg, redis_url), r.stdout)
        assert.are.equal(7, r.code)
    end)

    it("says which command cannot be run", function()
        local r = stack(folder, "run", "--", "no-such-program-here")
        assert.are.equal(1, r.code)
        assert.matches("cannot run 'no%-such%-program%-here'", r.stderr)
        assert.are.equal(2, stack(folder, "run").code)
    end)

    it("points --stack at its servers", function()
        local code = 'print(require("dbrun.db").sync:value("select current_user"))'
        local r = process.run { dbrun, "--no-env", "--stack", "-e", code, cwd = folder }
        assert.are.equal("dbrun\n", r.stdout, r.stderr)
    end)

    it("does not ask for the removal of data where nobody can answer", function()
        local r = stack(folder, "reset")
        assert.are.equal(2, r.code)
        assert.matches("%-%-force", r.stderr)
        answers(folder)
    end)

    it("refuses what it does not know", function()
        assert.are.equal(2, stack(folder, "start").code)
        assert.are.equal(2, stack(folder).code)
        local help = ok(stack(folder, "--help")).stdout
        assert.matches("^Usage.*\n$", help)
        for line in help:gmatch "[^\n]+" do assert.is_true(#line <= 100, line) end
    end)

    it("is not taken for its own by a copy of the folder", function()
        local copy = new_folder("copy")
        finally(clean_up)
        ok(process.run { "cp", "-a", folder .. "/.dbrun", copy })
        assert.are.equal(1, stack(copy, "status").code)
        assert.matches("was not running", ok(stack(copy, "down")).stdout)
        ok(stack(copy, "reset", "--force"))
        answers(folder)
    end)
end)

describe("dbrun stack, after", function()
    local folder

    -- One stack is damaged again and again, until something has ruined it for good.
    before_each(function()
        if not folder then
            folder = new_folder()
            ok(stack(folder, "up", "-q"))
            psql(folder, "create table t as select 42 as x")
            redis_cli(folder, "set", "k", "v")
            redis_cli(folder, "save")
        end
        ok(stack(folder, "up", "-q"))
    end)
    teardown(clean_up)

    local function ruined()
        finally(function()
            clean_up()
            folder = nil
        end)
    end

    local function data_is_there()
        answers(folder)
        assert.are.equal("42", psql(folder, "select x from t"))
        assert.are.equal("v", redis_cli(folder, "get", "k"))
    end

    it("down: nothing runs, status says so, and up brings the data back", function()
        local data = place_of(folder).data
        local r = ok(stack(folder, "down"))
        assert.matches("PostgreSQL%s+stopped", r.stdout)
        assert.matches("Redis%s+stopped", r.stdout)
        assert.are.equal(0, servers_in(data))
        assert.are.equal(1, stack(folder, "status").code)
        assert.matches("was not running", ok(stack(folder, "down")).stdout)
        ok(stack(folder, "up"))
        data_is_there()
    end)

    it("reset: everything is gone, and up makes it anew", function()
        ruined()
        local at = place_of(folder)
        ok(stack(folder, "reset", "--force"))
        assert.is_false(fs.exists(at.data))
        assert.is_false(fs.exists(at.sockets))
        assert.are.equal(0, servers_in(at.data))
        ok(stack(folder, "up"))
        assert.are.equal("0", psql(folder, "select count(*) from pg_tables where tablename = 't'"))
    end)

    it("kill -9 of both servers, with a statement under way", function()
        local busy <close> = process.start {
            "psql", "-X", (urls(folder)), "-c", "select pg_sleep(60)", stdout = "null", stderr = "null",
        }
        local sql = "select count(*) from pg_stat_activity where query like '%pg_sleep(60)' and state = 'active'"
        assert.is_truthy(daemon.poll(5, function() return psql(folder, sql) == "1" end))
        process.kill(pid_of(folder), "KILL")
        process.kill(pid_of(folder, "redis"), "KILL")
        ok(stack(folder, "up"))
        data_is_there()
        assert.is_truthy(busy)
    end)

    it("kill -9 of one: only that one is started", function()
        local redis_pid = pid_of(folder, "redis")
        process.kill(pid_of(folder), "KILL")
        local r = ok(stack(folder, "up"))
        assert.matches("PostgreSQL%s+started", r.stdout)
        assert.matches("Redis%s+is up already", r.stdout)
        assert.are.equal(redis_pid, pid_of(folder, "redis"))
        data_is_there()
    end)

    it("a crash whose process numbers were given to others: those are left alone", function()
        local stranger <close> = process.start { "sleep", "300" }
        local at = place_of(folder)
        ok(stack(folder, "down"))
        local file = at.data .. "/postgres/postmaster.pid"
        fs.write(file, ("%d\n%s/postgres\n1700000000\n5432\n%s\n\n  1 1\nready   \n"):format(stranger.pid, at.data,
            at.sockets))
        fs.write(at.data .. "/redis/redis.pid", stranger.pid .. "\n")
        if is_root then fs.chown(file, fs.stat(at.data).uid, fs.stat(at.data).gid) end
        assert.matches("is down.*is down", stack(folder, "status").stdout)
        assert.matches("was not running.*was not running", ok(stack(folder, "down")).stdout)
        assert.is_true(stranger:running())
        ok(stack(folder, "up"))
        data_is_there()
        assert.is_true(stranger:running())
    end)

    it("the loss of its sockets", function()
        local sockets = place_of(folder).sockets
        fs.unlink(sockets .. "/.s.PGSQL.5432")
        fs.unlink(sockets .. "/redis.sock")
        ok(stack(folder, "up"))
        data_is_there()
    end)

    it("the loss of the folder with the sockets", function()
        fs.rmtree(place_of(folder).sockets)
        ok(stack(folder, "up"))
        data_is_there()
    end)

    it("the loss of its pid files", function()
        local at = place_of(folder)
        fs.unlink(at.data .. "/redis/redis.pid")
        ok(stack(folder, "up"))
        data_is_there()
        assert.are.equal(1, #daemon.processes("redis-server", at.data .. "/redis"))
    end)

    it("a freeze of PostgreSQL: status tells, down ends it all the same", function()
        local pid = pid_of(folder)
        process.kill(pid, "STOP")
        local t = task.now()
        local r = stack(folder, "status")
        assert.are.equal(1, r.code)
        assert.matches("process " .. pid .. " does not answer", r.stdout)
        assert.is_true(task.now() - t < 20)
        ok(stack(folder, "down"))
        assert.are.equal(0, servers_in(place_of(folder).data))
    end)

    it("a move of the folder", function()
        ruined()
        ok(stack(folder, "down"))
        local other = select(2, new_folder()) .. "/moved"
        fs.rename(folder, other)
        folder = other
        ok(stack(folder, "up"))
        data_is_there()
    end)

    it("damage to the cluster: the log's last lines are shown", function()
        ruined()
        ok(stack(folder, "down"))
        fs.rmtree(place_of(folder).data .. "/postgres/global")
        local r = stack(folder, "up")
        assert.are.equal(1, r.code)
        assert.matches("PostgreSQL did not start", r.stderr)
        assert.matches("global/pg_control", r.stderr)
    end)

    it("a change of PostgreSQL's version: it says what to do", function()
        ruined()
        ok(stack(folder, "down"))
        fs.write(place_of(folder).data .. "/postgres/PG_VERSION", "9\n")
        local r = stack(folder, "up")
        assert.are.equal(2, r.code)
        assert.matches("PostgreSQL 9 is not installed any more", r.stderr)
        assert.matches("reset", r.stderr)
    end)
end)

describe("dbrun stack up", function()
    after_each(clean_up)

    it("makes one cluster when it is called several times at once", function()
        local folder = new_folder()
        local results = task.map({ 1, 2, 3, 4 }, 4, function() return stack(folder, "up") end)
        local started = 0
        for _, r in ipairs(results) do
            ok(r)
            started = started + select(2, r.stdout:gsub("PostgreSQL%s+started", ""))
        end
        assert.are.equal(1, started)
        answers(folder)
    end)

    it("takes hardly longer from nothing than initdb does", function()
        local folder, base = new_folder()
        local user = is_root and "postgres" or nil
        if user then fs.chmod(base, oct "777") end
        local t = task.now()
        ok(process.run {
            require("dbrun.stack.programs").postgres().bindir .. "/initdb", "-N", "-D", base .. "/measure",
            user = user, cwd = "/",
        })
        local initdb = task.now() - t
        t = task.now()
        ok(stack(folder, "up"))
        local took = task.now() - t
        assert.is_true(took < 3 * initdb + 1, ("initdb %.2f s, up %.2f s"):format(initdb, took))
    end)

    it("works in a path with spaces, quotes, per cent and letters of all kinds", function()
        local folder = new_folder([[a b; "c" 'd' 50% \é]])
        ok(stack(folder, "up"))
        answers(folder)
        assert.are.equal("dbrun\n", ok(stack(folder, "run", "--", dbrun, "--no-env", "-e",
            'print(require("dbrun.db").sync:value("select current_user"))')).stdout)
        assert.are.equal("PONG\n", ok(stack(folder, "run", "--", dbrun, "--no-env", "-e",
            'print(require("dbrun.redis").get():ping())')).stdout)
        assert.is_true(fs.exists(folder .. "/.dbrun/stack/sockets/redis.sock"))
    end)

    it("puts the sockets elsewhere when a comma is in the path, which a URL cannot say", function()
        local folder = new_folder("a,b")
        ok(stack(folder, "up"))
        answers(folder)
        assert.is_nil(place_of(folder).sockets:find(",", 1, true))
    end)

    it("works in a path with a line end in it", function()
        local folder = new_folder("a\nb%0A")
        ok(stack(folder, "up"))
        answers(folder)
        assert.matches("is up already.*is up already", ok(stack(folder, "up")).stdout)
    end)

    it("puts the sockets elsewhere, private, when the path is too long for them", function()
        local folder = new_folder(("long"):rep(30))
        ok(stack(folder, "up"))
        answers(folder)
        local at = place_of(folder)
        assert.are.equal(oct "700", fs.stat(at.sockets).mode)
        assert.is_nil(at.sockets:find(folder, 1, true))
        assert.are.equal(folder .. "/.dbrun/stack/data", at.data)
        ok(stack(folder, "reset", "--force"))
        assert.is_false(fs.exists(at.sockets))
    end)

    it("uses a path that just fits, and not one that is a byte longer", function()
        local base = new_folder()
        local rest = #"/.dbrun/stack/sockets/.s.PGSQL.5432"
        for _, length in ipairs { 107, 108 } do
            local folder = base .. "/" .. ("x"):rep(length - rest - #base - 1)
            fs.mkdir(folder)
            ok(stack(folder, "up", "-q"))
            answers(folder)
            assert.are.equal(length == 107, place_of(folder).sockets:find(folder, 1, true) ~= nil)
        end
    end)

    it("works for root in a folder that the servers' user may not enter", function()
        if not is_root then return pending("only root changes users") end
        local folder, base = new_folder()
        fs.chmod(base, oct "700")
        ok(stack(folder, "up"))
        answers(folder)
        local at = place_of(folder)
        assert.is_nil(at.data:find(base, 1, true))
        assert.are.equal(folder .. "/.dbrun/stack\n", fs.read(at.data .. "/belongs-to"))
        assert.are.equal(oct "700", fs.stat(at.data).mode)
        local pids = { pid_of(folder), pid_of(folder, "redis") }
        for _, pid in ipairs(pids) do
            assert.are.equal(process.user("postgres").uid, fs.stat("/proc/" .. pid).uid)
        end
        ok(stack(folder, "reset", "--force"))
        assert.is_false(fs.exists(at.data))
        assert.is_false(fs.exists(at.sockets))
    end)

    it("works for an ordinary user, whose servers root can stop and start again", function()
        if not is_root then return pending("needs root to become somebody else") end
        local folder, base = new_folder("theirs")
        local nobody = process.user("nobody")
        ok(process.run { "cp", dbrun, base .. "/dbrun" })
        ok(process.run { "cp", script, base .. "/stack.lua" })
        fs.chown(folder, nobody.uid, nobody.gid)
        local function theirs(...)
            local words = { ... }
            words[#words + 1] = {
                program = { base .. "/dbrun", base .. "/stack.lua" }, user = "nobody",
                env = { XDG_RUNTIME_DIR = false },
            }
            return stack(folder, table.unpack(words))
        end
        ok(theirs("up"))
        ok(theirs("status"))
        assert.are.equal(nobody.uid, fs.stat("/proc/" .. pid_of(folder)).uid)
        assert.matches("is up already.*is up already", ok(stack(folder, "up")).stdout)
        ok(stack(folder, "down"))
        ok(stack(folder, "up"))
        assert.are.equal(nobody.uid, fs.stat("/proc/" .. pid_of(folder)).uid)
        answers(folder)
        ok(theirs("down"))
        ok(theirs("up"))
        ok(theirs("reset", "--force"))
    end)

    it("knows its servers where root may not look into other users' processes, as in a container", function()
        if not is_root then return pending("root's servers run as another user") end
        local folder = new_folder()
        local function contained(...)
            return stack(folder, { program = {
                "setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace", dbrun, script, ...,
            } })
        end
        local first = contained("up")
        if first.stderr:find("setpriv", 1, true) then return pending("setpriv cannot take rights away here") end
        ok(first)
        assert.matches("is up already.*is up already", ok(contained("up")).stdout)
        ok(contained("status"))
        process.kill(pid_of(folder), "KILL")
        process.kill(pid_of(folder, "redis"), "KILL")
        ok(contained("up"))
        answers(folder)
        assert.matches("stopped.*stopped", ok(contained("down")).stdout)
        assert.are.equal(0, servers_in(place_of(folder).data))
    end)

    it("puts an ordinary user's sockets into XDG_RUNTIME_DIR when the path is too long", function()
        local nobody = process.user("nobody")
        local folder, base = new_folder(("long"):rep(30))
        local runtime_dir = base .. "/run"
        fs.mkdir(runtime_dir, oct "700")
        local spec = { env = { XDG_RUNTIME_DIR = runtime_dir } }
        if is_root then
            ok(process.run { "cp", dbrun, base .. "/dbrun" })
            ok(process.run { "cp", script, base .. "/stack.lua" })
            for _, path in ipairs { folder, runtime_dir } do fs.chown(path, nobody.uid, nobody.gid) end
            spec.user, spec.program = "nobody", { base .. "/dbrun", base .. "/stack.lua" }
        end
        ok(stack(folder, "up", spec))
        assert.are.equal(runtime_dir, fs.dirname(place_of(folder).sockets))
        answers(folder)
    end)

    it("says so when the stack belongs to somebody else", function()
        if not is_root then return pending("needs root to become somebody else") end
        local folder, base = new_folder("ours")
        ok(stack(folder, "up"))
        ok(process.run { "cp", dbrun, base .. "/dbrun" })
        ok(process.run { "cp", script, base .. "/stack.lua" })
        local r = stack(folder, "up", { program = { base .. "/dbrun", base .. "/stack.lua" }, user = "nobody" })
        assert.are.equal(1, r.code)
        assert.matches("Permission denied", r.stderr)
        assert.is_nil(r.stderr:find("traceback", 1, true))
        answers(folder)
    end)

    it("says so when there is no user for root's servers", function()
        if not is_root then return pending("only root changes users") end
        local folder, base = new_folder("x")
        fs.write(base .. "/passwd", "root:x:0:0:root:/root:/bin/sh\n", oct "644")
        local r = process.run {
            "unshare", "-m", "sh", "-c", 'mount --bind "$1/passwd" /etc/passwd && exec "$2" "$3" up', "sh", base, dbrun,
            script, cwd = folder, timeout = 30,
        }
        if r.stderr:find("unshare") then return pending("no mount namespaces here") end
        assert.are.equal(2, r.code, r.stdout)
        assert.matches("no user 'postgres'", r.stderr)
        assert.matches("useradd", r.stderr)
    end)

    it("leaves nothing half-made when the disk is full, and works when there is room", function()
        if not is_root then return pending("only root can mount a small file system") end
        local folder = new_folder("small")
        if not process.run({ "mount", "-t", "tmpfs", "-o", "size=20m,mode=755", "tmpfs", folder }).ok then
            return pending("no file system can be mounted here")
        end
        finally(function()
            stack(folder, "reset", "--force")
            process.run { "umount", folder }
        end)
        local r = stack(folder, "up")
        assert.are.equal(1, r.code)
        assert.matches("initdb could not make a PostgreSQL cluster", r.stderr)
        assert.matches("[Dd]isk space", (r.stderr:gsub("No space left on device", "no disk space")))
        assert.matches("only %d+ MB are free", r.stderr)
        for _, name in ipairs(fs.list(folder .. "/.dbrun/stack/data")) do
            assert.is_nil(name:find("postgres.new", 1, true))
        end
        ok(process.run { "mount", "-o", "remount,size=500m", folder })
        ok(stack(folder, "up"))
        answers(folder)
    end)

    it("is not confused by an `up` that was killed in the middle", function()
        local folder = new_folder()
        for _, moment in ipairs { 0.02, 0.1, 0.3, 0.6 } do
            local child = process.start { dbrun, script, "up", cwd = folder, stdout = "null", stderr = "null" }
            task.sleep(moment)
            child:kill("KILL")
            child:wait(5)
        end
        ok(stack(folder, "up"))
        answers(folder)
        local data = place_of(folder).data
        for _, name in ipairs(fs.list(data)) do assert.is_nil(name:find("postgres.new", 1, true)) end
        local masters = 0
        for _, p in ipairs((daemon.processes("postgres", data .. "/postgres"))) do
            if p.pid == pid_of(folder) then masters = masters + 1 end
        end
        assert.are.equal(1, masters)
        assert.are.equal(1, #daemon.processes("redis-server", data .. "/redis"))
    end)

    it("stops at once when it is interrupted", function()
        local folder = new_folder()
        local child <close> = process.start { dbrun, script, "up", cwd = folder, stdout = "null", stderr = "null" }
        task.sleep(0.1)
        child:kill("INT")
        local t = task.now()
        local r = child:wait(10)
        assert.is_true(task.now() - t < 10)
        assert.are.equal(130, r.code)
        ok(stack(folder, "up"))
        answers(folder)
    end)

    it("names the folder that DBRUN_PG_BINDIR should be", function()
        local folder = new_folder()
        local r = stack(folder, "up", { env = { DBRUN_PG_BINDIR = "/no/such/bin" } })
        assert.are.equal(2, r.code)
        assert.matches("DBRUN_PG_BINDIR", r.stderr)
    end)

    it("says what to install when a server is not there", function()
        local folder = new_folder()
        local r = stack(folder, "up", { env = { PATH = "/nowhere" } })
        assert.are.equal(2, r.code)
        assert.matches("no Redis server is installed", r.stderr)
        assert.matches("apt%-get install redis%-server", r.stderr)
    end)

    it("starts servers that a hang-up of the terminal does not reach", function()
        local folder = new_folder()
        ok(stack(folder, "up"))
        local pid = pid_of(folder)
        local sid = process.run({ "ps", "-o", "sid=", "-p", pid }).stdout
        assert.are.equal(pid, math.tointeger(tonumber(sid)))
        assert.are_not.equal(process.pid(), process.info(pid).ppid)
    end)
end)

describe("dbrun stack, where it was never started", function()
    after_each(clean_up)

    it("has nothing to stop, to remove or to tell, and makes no folder for it", function()
        local folder = new_folder()
        assert.are.equal(1, stack(folder, "status").code)
        assert.matches("never been started", stack(folder, "env").stderr)
        assert.are.equal(1, stack(folder, "env").code)
        ok(stack(folder, "down"))
        assert.matches("nothing to remove", ok(stack(folder, "reset", "--force")).stdout)
        assert.are.same({}, fs.list(folder))
    end)

    it("is started by `run`", function()
        local folder = new_folder()
        local r = ok(stack(folder, "run", "--", "sh", "-c", 'psql -XAtq "$DATABASE_URL" -c "select 1"'))
        assert.are.equal("1\n", r.stdout)
    end)
end)
