--- The first start of the private stack: several at once, in folders of all kinds, by all kinds of users, interrupted.
local daemon = require "dbrun.stack.daemon"
local fs = require "dbrun.fs"
local initdb = require "spec.support.initdb"
local pace = require "spec.support.pace"
local process = require "dbrun.process"
local own = require "spec.support.stack"
local task = require "dbrun.task"

local oct <const>, stack <const>, ok <const>, new_folder <const>, place_of <const>, pid_of <const>,
    servers_in <const>, answers <const>, clean_up <const>, dbrun <const>, script <const>, is_root <const> =
    own.oct, own.stack, own.ok, own.new_folder, own.place_of, own.pid_of, own.servers_in, own.answers, own.clean_up,
    own.dbrun, own.script, own.is_root

describe("dbrun stack up", function()
    after_each(clean_up)

    it("creates one cluster when it is called several times at once", function()
        local folder = new_folder()
        local results = task.map({ 1, 2, 3, 4 }, 4, function() return stack(folder, "up", { initdb = true }) end)
        local started = 0
        for _, r in ipairs(results) do
            ok(r)
            started = started + select(2, r.stdout:gsub("PostgreSQL%s+started", ""))
        end
        assert.are.equal(1, started)
        answers(folder)
    end)

    it("takes hardly longer than initdb the first time", function()
        local folder, base = new_folder()
        local user = is_root and "postgres" or nil
        if user then fs.chmod(base, oct "777") end
        local tries = 0
        pace.kept(function()
            tries = tries + 1
            if tries > 1 then ok(stack(folder, "reset", "--force")) end
            local t = task.now()
            ok(process.run {
                require("dbrun.stack.programs").postgres().bindir .. "/initdb", "-N", "-D", base .. "/measure" .. tries,
                user = user, cwd = "/",
            })
            local alone = task.now() - t
            t = task.now()
            ok(stack(folder, "up", { initdb = true }))
            local took = task.now() - t
            assert.is_true(took < 3 * alone + 1, ("initdb %.2f s, up %.2f s"):format(alone, took))
        end)
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

    it("puts the sockets elsewhere when the path has a comma, which a URL cannot express", function()
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

    it("uses a path of the largest length, and not one that is a byte longer", function()
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

    it("works for root in a folder that the servers' user cannot enter", function()
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
        if not is_root then return pending("needs root to become another user") end
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
        fs.chown(folder .. "/.dbrun/stack", 0, 0)
        for _, command in ipairs { "up", "status", "env", "down", "reset" } do
            local r = theirs(command, command == "reset" and "--force" or nil)
            assert.are.equal(1, r.code)
            assert.matches("belongs to user root\n  hint: use it as that user", r.stderr)
        end
        fs.chown(folder .. "/.dbrun/stack", nobody.uid, nobody.gid)
        ok(theirs("up"))
        ok(theirs("reset", "--force"))
    end)

    it("recognises its servers when root cannot inspect other users' processes, as in a container", function()
        if not is_root then return pending("root's servers run as another user") end
        local folder = new_folder()
        local function contained(...)
            return stack(folder, { env = { DBRUN_PG_BINDIR = initdb.bindir() }, program = {
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

    it("says so when the stack belongs to another user", function()
        if not is_root then return pending("needs root to become another user") end
        local folder, base = new_folder("ours")
        ok(stack(folder, "up"))
        ok(process.run { "cp", dbrun, base .. "/dbrun" })
        ok(process.run { "cp", script, base .. "/stack.lua" })
        local r = stack(folder, "up", { program = { base .. "/dbrun", base .. "/stack.lua" }, user = "nobody" })
        assert.are.equal(1, r.code)
        assert.matches("belongs to user root", r.stderr)
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

    it("leaves no partial cluster when the disk is full, and works when there is room", function()
        if not is_root then return pending("only root can mount a small file system") end
        local folder = new_folder("small")
        if not process.run({ "mount", "-t", "tmpfs", "-o", "size=20m,mode=755", "tmpfs", folder }).ok then
            return pending("no file system can be mounted here")
        end
        finally(function()
            stack(folder, "reset", "--force")
            process.run { "umount", folder }
        end)
        local r = stack(folder, "up", { initdb = true })
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

    it("recovers from an `up` that was killed in the middle", function()
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

    it("stops processes that still write into an unfinished cluster", function()
        local folder = new_folder()
        ok(stack(folder, "up"))
        ok(stack(folder, "down"))
        local data = place_of(folder).data
        fs.rmtree(data .. "/postgres")
        local unfinished = data .. "/postgres.new.1"
        fs.mkdir_p(unfinished)
        fs.write(folder .. "/postgres", fs.read "/bin/sh")
        fs.chmod(folder .. "/postgres", oct "755")
        local writer <close> = process.start {
            folder .. "/postgres", "-c", "i=0; while :; do i=$((i + 1)); : > $i; done", cwd = unfinished,
            stdout = "null", stderr = "null",
        }
        local deadline = task.now() + 10
        while #fs.list(unfinished) < 100 and task.now() < deadline do task.sleep(0.01) end
        assert.is_true(#fs.list(unfinished) >= 100)
        ok(stack(folder, "up"))
        assert.are.equal("KILL", writer:wait(5).signal)
        assert.is_false(fs.exists(unfinished))
        answers(folder)
    end)

    it("stops at once when it is interrupted", function()
        local folder = new_folder()
        local child <close> = process.start { dbrun, script, "up", cwd = folder, stdout = "null", stderr = "null" }
        local t = task.now()
        repeat task.sleep(0.02) until fs.exists(folder .. "/.dbrun") or task.now() > t + 20
        child:kill("INT")
        t = task.now()
        local r = child:wait(10)
        assert.is_true(task.now() - t < 10)
        assert.are.equal(130, r.code)
        ok(stack(folder, "up"))
        answers(folder)
    end)

    it("names the right folder for DBRUN_PG_BINDIR", function()
        local folder = new_folder()
        local r = stack(folder, "up", { env = { DBRUN_PG_BINDIR = "/no/such/bin" } })
        assert.are.equal(2, r.code)
        assert.matches("DBRUN_PG_BINDIR", r.stderr)
    end)

    it("reports at once wrong libpq settings in the environment", function()
        local folder = new_folder()
        for variable, words in pairs { PGSERVICE = 'definition of service "none" not found', PGSSLMODE = "sslmode",
            PGCHANNELBINDING = "channel", PGOPTIONS = "none" } do
            local began = task.now()
            local value = variable == "PGOPTIONS" and "-c none=1"
                or variable == "PGCHANNELBINDING" and "require" or "none"
            local r = stack(folder, "up", { env = { [variable] = value } })
            assert.equal(1, r.code, r.stderr)
            assert.matches(words, r.stderr, 1, true)
            if variable == "PGSERVICE" then assert.matches("hint: [^\n]*PGSERVICE out of the environment", r.stderr) end
            assert.is_true(task.now() - began < 30)
        end
        ok(stack(folder, "up"))
    end)

    it("needs no pg_config", function()
        local folder, base = new_folder("project")
        fs.mkdir(base .. "/bin")
        local bindir = initdb.bindir()
        for _, name in ipairs { "initdb", "postgres" } do fs.symlink(bindir .. "/" .. name, base .. "/bin/" .. name) end
        ok(stack(folder, "up", { env = { DBRUN_PG_BINDIR = base .. "/bin" } }))
        answers(folder)
    end)

    it("names the package to install when a server is missing", function()
        local folder = new_folder()
        local r = stack(folder, "up", { env = { PATH = "/nowhere" } })
        assert.are.equal(2, r.code)
        assert.matches("no Redis server is installed", r.stderr)
        assert.matches("apt%-get install redis%-server", r.stderr)
    end)

    it("starts servers that survive a hang-up of the terminal", function()
        local folder = new_folder()
        ok(stack(folder, "up"))
        local pid = pid_of(folder)
        local sid = process.run({ "ps", "-o", "sid=", "-p", pid }).stdout
        assert.are.equal(pid, math.tointeger(tonumber(sid)))
        assert.are_not.equal(process.pid(), process.info(pid).ppid)
    end)
end)
