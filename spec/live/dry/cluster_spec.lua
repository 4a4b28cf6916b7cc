-- A dry run with a cluster, with writes that wait for replicas, and with clients that were created before it began.
local core = require "dbrun.core"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local redis_server = require "spec.support.redis_server"

describe("a dry run", function()
    local server, folder

    setup(function()
        folder = fs.mkdtemp()
        server = redis_server.start { args = { "--cluster-enabled", "yes" }, tcp = true }
        server:cli("cluster", "addslotsrange", "0", "16383")
        assert(redis_server.wait_until(20, function() return server:cli("cluster", "info"):find "cluster_state:ok" end))
        server:cli("set", "greeting", "hello")
        server:cli("set", "{b}x", "1")
    end)
    teardown(function()
        server:stop()
        fs.rmtree(folder)
    end)

    ---@param option string[]
    local function run(script, url, option)
        fs.write(folder .. "/script.lua", script)
        local before <const> = server:cli("debug", "digest")
        local argv <const> = { core.options.program, "--no-env", timeout = 20, env = { REDIS_URL = url } }
        table.move(option, 1, #option, 3, argv)
        argv[#argv + 1] = folder .. "/script.lua"
        local result <const> = process.run(argv)
        assert.equal(before, server:cli("debug", "digest"))
        assert.equal(0, result.code, result.stderr)
        return result
    end

    it("answers the writes to a cluster, split by slot or not, and for all nodes", function()
        local result <const> = run([[
            local r = require "dbrun.redis".get()
            print(r:set("a", 1), r:get "greeting", r:del("a", "b", "c", "d"), r:mset("a", 1, "b", 2))
            print(table.unpack(r:pipeline(function(p) p:set("a", 1) p:get "greeting" p:del("b", "c") p:get "{b}x" end)))
            print(r:flushall(), r:dbsize(), r:call("SCRIPT", "FLUSH"), r:publish("c", "x"))
            print(r:with { wait = { replicas = 2 } }:set("a", 1))
            local l <close> = r:lock("report", { fence = true })
            print(l.fence, l:extend(20))
            print(select(2, pcall(r.incr, r, "a")).message)
            print(select(2, pcall(r.multi, r, function(tx) tx:set("a", 1) end)).message:match "answer [^:]*")
            local c <close> = r:acquire "a" print(c:set("a", 2), c:get "a")
        ]], ("redis+cluster://127.0.0.1:%d"):format(server.port), { "--dry-run" })
        assert.equal("OK\thello\t4\tOK\nOK\thello\t2\t1\nOK\t2\tOK\t0\nOK\n1\ttrue\n"
            .. "redis: a dry run cannot answer INCR: its answer depends on what the server has by then\n"
            .. "answer MULTI\nOK\tnil\n", result.stdout, result.stderr)
        assert.match("redis  DEL +a", result.stderr)
    end)

    it("applies to clients and pipelines that were created before it began", function()
        local result <const> = run([[
            local redis = require "dbrun.redis"
            local r = redis.get()
            local execute, popen = os.execute, io.popen
            local confirmed, c, p, set = r:with { wait = { replicas = 2 } }, r:acquire(), r:pipeline(), r.set
            r:get "greeting"
            require "dbrun.dry.start".start()
            print(confirmed:set("greeting", 1), c:set("greeting", 1), set(r, "greeting", 1))
            p:set("greeting", 1)
            print(p:execute()[1], confirmed:pipeline(function(q) q:del "greeting" end)[1], require "dbrun".dry_run)
            c:close()
            print((execute "exit 3"), #popen("echo hi"):read "a")
        ]], server.url, {})
        assert.equal("OK\tOK\tOK\nOK\t1\ttrue\ntrue\t0\n", result.stdout, result.stderr)
    end)

    it("does not start after Redis has been used", function()
        local result <const> = run([[
            local r = require "dbrun.redis".get()
            r:get "greeting"
            local start = require "dbrun.dry.start".start
            print(select(2, pcall(start, true)).message)
        ]], server.url, {})
        assert.equal("--dry-run: the script has used Redis before cli.run, and what it wrote is kept\n", result.stdout)
    end)

    it("asks the server about commands that it does not know", function()
        local renamed <const> = redis_server.start { args = {
            "--rename-command", "GET", "PEEK", "--rename-command", "SET", "PUT",
        } }
        renamed:cli("put", "greeting", "hello")
        local ok <const>, result <const> = pcall(run, [[
            local r = require "dbrun.redis".get()
            print(r:with { typed = true }:peek "greeting")
            print(r:peek "greeting", table.unpack(r:pipeline(function(p) p:del "a" p:peek "greeting" end)))
            local replies = r:pipeline(function(p) p:set("a", 1) p:del "a" end)
            print(select(2, pcall(r.set, r, "a", 1)).message, replies[1].message, replies[2])
            print(select(2, pcall(r.put, r, "greeting", 1)).message:sub(1, 47), r:peek "greeting")
            print(select(2, pcall(r.pipeline, r, function(p) p:put("greeting", 1) end)).kind)
        ]], renamed.url, { "--dry-run" })
        renamed:stop()
        assert(ok, result)
        assert.equal("hello\nhello\t1\thello\nERR unknown command 'SET'\tERR unknown command 'SET'\t1\n"
            .. "redis: a dry run cannot answer PUT: dbrun does \thello\nusage\n", result.stdout, result.stderr)
    end)

    it("refuses each write with --read-only", function()
        local result <const> = run([[
            local r = require "dbrun.redis".get()
            print(select(2, pcall(r.set, r, "a", 1)).message, r:get "greeting")
        ]], server.url, { "--dry-run", "--read-only" })
        assert.equal("redis: SET may write, and this program runs with --read-only\thello\n", result.stdout)
    end)
end)
