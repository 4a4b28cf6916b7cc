-- Redis in a dry run: reads are real, writes are reported, and nothing changes.
local core = require "dbrun.core"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local redis_server = require "spec.support.redis_server"

local PRELUDE <const> = [[
local redis, errors, task = require "dbrun.redis", require "dbrun.error", require "dbrun.task"
local r = redis.get()
]]

describe("a dry run", function()
    local server, r, folder
    redis_server.around(_ENV, function(...) server, r = ... end)
    setup(function() folder = fs.mkdtemp() end)
    teardown(function() fs.rmtree(folder) end)

    before_each(function()
        r:flushall()
        r:set("greeting", "hello")
        r:hset("h", { a = 1 })
        r:rpush("queue", "one", "two")
        r:xadd("s", "1-1", "field", "value")
    end)

    --- Runs the script in a dry run, and checks that the server is unchanged afterwards.
    local function run(script)
        local path <const> = folder .. "/script.lua"
        fs.write(path, PRELUDE .. script)
        local before <const> = r:debug "DIGEST"
        local result <const> = process.run {
            core.options.program, "--no-env", "--dry-run", path, env = { REDIS_URL = server.url }, timeout = 20,
        }
        assert.equal(before, r:debug "DIGEST", "the dry run has changed something")
        assert.not_match("stack traceback:.*dbrun/dry", result.stderr)
        return result
    end

    --- Every line has one statement; its output follows `-->`.
    local function prints(script)
        local expected <const> = {}
        for line in script:gmatch "%-%->%s*([^\n]*)" do expected[#expected + 1] = line end
        local result <const> = run(script)
        assert.equal(table.concat(expected, "\n") .. "\n", result.stdout, result.stderr)
        assert.equal(0, result.code, result.stderr)
        return result.stderr
    end

    it("answers writes from their arguments, and reads show what the server has", function()
        prints [[
            print(require "dbrun".dry_run) --> true
            print(r:set("greeting", "bye"), r:get "greeting") --> OK	hello
            print(r:set("a", 1, "EX", 60), r:setex("a", 60, "x"), r:mset("a", 1, "b", 2)) --> OK	OK	OK
            print(r:del("greeting", "nobody"), r:unlink { "a", "b", "c" }, r:exists "greeting") --> 2	3	1
            print(r:expire("greeting", 5), r:persist "greeting", r:ttl "greeting") --> 1	1	-1
            print(r:hset("h", { a = 2, b = 3 }), r:hdel("h", "a"), r:hget("h", "a")) --> 2	1	1
            print(r:sadd("set", 1, 2, 3), r:srem("set", 1)) --> 3	1
            print(r:zadd("z", "CH", 1, "a", 2, "b"), r:zrem("z", "a")) --> 2	1
            print(r:publish("channel", "text"), r:rename("greeting", "g"), r:ltrim("queue", 0, 0)) --> 0	OK	OK
            print(r:xack("s", "g", "1-1", "1-2"), r:xdel("s", "1-1"), r:xlen "s") --> 2	1	1
            print(r:flushdb(), r:dbsize()) --> OK	4
            print(r:call("SCRIPT", "LOAD", "return 1")) --> e0e1f9fabfc9d4800c877a703b823ac0578ff8db
            print(r:with { typed = true }:set("a", 1).status) --> OK
            print(r:with { wait = { replicas = 3 } }:set("a", 1)) --> OK
        ]]
    end)

    it("sends commands that only read, also those that could write with other options", function()
        prints [[
            print(#r:sort("queue", "ALPHA"), r:call("GETEX", "greeting")) --> 2	hello
            print(#r:bitfield("greeting", "GET", "u8", 0)) --> 1
            print(r:call("EVAL_RO", "return redis.call('get', KEYS[1])", 1, "greeting")) --> hello
            print(r:xread("STREAMS", "s", "0").s[1][1], #r:lrange("queue", 0, -1)) --> 1-1	2
            print(r:object("ENCODING", "greeting")) --> embstr
            for key in r:scan { match = "gree*" } do print(key) end --> greeting
            print(r:multi(function(tx) tx:get "greeting" tx:llen "queue" end)[2]) --> 2
            print(r:multi({ watch = "greeting" }, function(tx) tx:get "greeting" end)[1]) --> hello
            local c <close> = r:acquire() print(c:set("a", 1), c:get "a", c:get "greeting") --> OK	nil	hello
            print(#r:acl "LOG", r:call("CONFIG", "GET", "maxclients").maxclients) --> 0	500
        ]]
    end)

    it("puts the simulated replies to a pipeline's writes between the replies to its reads", function()
        prints [[
            local p = r:pipeline()
            p:set("a", 1) p:get "greeting" p:del("x", "y") p:get "nobody" p:llen "queue"
            print(#p) --> 5
            local replies = p:execute()
            print(#replies, table.unpack(replies, 1, 5)) --> 5	OK	hello	2	nil	2
            print(#p, #p:execute()) --> 0	0
            print(table.unpack(r:pipeline(function(q) q:set("a", 1) q:sadd("b", 1, 2) end))) --> OK	2
            p:set("a", 1) p:clear() p:get "greeting" print(p:execute()[1]) --> hello
            p:hset("greeting", { a = 1 }) p:hget("greeting", "a") print(p:execute()[2].code) --> WRONGTYPE
        ]]
    end)

    describe("ends with an error that says why", function()
        for command, why in pairs {
            ['"INCR", "n"'] = "INCR: its answer depends on what the server has by then",
            ['"LPOP", "queue"'] = "LPOP: its answer depends", ['"BLPOP", "queue", 1'] = "BLPOP: its answer depends",
            ['"XADD", "s", "*", "a", 1'] = "XADD: its answer depends",
            ['"SET", "greeting", 1, "NX"'] = "SET: its answer depends",
            ['"SORT", "queue", "ALPHA", "STORE", "x"'] = "SORT: its answer depends",
            ['"GETEX", "greeting", "EX", 1'] = "GETEX: its answer depends",
            ['"BITFIELD", "greeting", "INCRBY", "u8", 0, 1'] = "BITFIELD: its answer depends",
            ['"EVAL", "return 1", 0'] = "EVAL: what a script writes is known only when it has run",
            ['"XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">"'] = "XREADGROUP: it takes messages",
            ['"SHUTDOWN", "NOSAVE"'] = "SHUTDOWN: it acts on the server",
            ['"CLIENT", "KILL", "TYPE", "normal"'] = "CLIENT KILL: it acts on the server",
            ['"NEW.COMMAND", "k"'] = "NEW.COMMAND: dbrun does not know it",
        } do
            it(command:match '^"([%u.]+)', function()
                local result <const> = run(("r:call(%s) print 'not here'"):format(command))
                assert.equal(2, result.code)
                assert.equal("", result.stdout)
                assert.match("redis: a dry run cannot answer " .. why, result.stderr, 1, true)
                assert.match("HINT: [^\n]*dry_run", result.stderr)
                assert.match("\n  redis  " .. why:match "^[%w. ]+" .. "[^\n]*not answered", result.stderr)
            end)
        end

        it("a transaction that writes, a consumer, a script", function()
            prints [[
                local function of(fn, ...) return (select(2, pcall(fn, ...)).message:match "answer ([^:]*)") end
                print(of(r.multi, r, function(tx) tx:get "a" tx:set("a", 1) end)) --> MULTI
                print(of(r.multi, r, { watch = "a" }, function(tx) tx:incr "a" end)) --> MULTI
                print(of(r.pipeline, r, function(p) p:incr "a" end)) --> INCR
                print(of(r.consume, r, { stream = "s", group = "g", consumer = "c", handle = print })) --> XREADGROUP
                print(of(r:script "return 1")) --> EVALSHA
                local lib = r:library "#!lua name=l\nredis.register_function('f', function() return 1 end)"
                print(of(lib.call, lib, "f")) --> FUNCTION LOAD
                local c <close> = r:acquire() print(c:raw("SET", "a", 1), of(c.call, c, "INCR", "a")) --> OK	INCR
            ]]
        end)

        it("arguments that every server refuses, as it does", function()
            prints [[
                local function of(...) return (select(2, pcall(r.call, r, ...)).message:gsub("^ERR ", "")) end
                print(of("SET", "a", 1, "EX")) --> syntax error
                print(of("set", "a", 1, "px", 0)) --> invalid expire time in 'set' command
                print(of("EXPIRE", "a", "soon")) --> value is not an integer or out of range
                print(of("SETEX", "a", "1.5", "x")) --> value is not an integer or out of range
                print(of("FLUSHALL", "now"), of("ZADD", "z", 1, "a", 2)) --> syntax error	syntax error
                print(of("XDEL", "s", "first")) --> Invalid stream ID specified as stream command argument
                print(r:zadd("z", "-inf", "a"), r:set("a", 1, "Ex", "60"), r:flushdb "async") --> 1	OK	OK
                local replies = r:pipeline(function(p) p:set "a" p:hset("h", "a") p:set("a", 1, "EX", 0) p:del "a" end)
                print(replies[1].code, replies[2].kind, replies[3].code, replies[4]) --> ERR	redis	ERR	1
            ]]
        end)

        it("a command that a connection posts without waiting for the reply", function()
            prints [[
                local c <close> = r:acquire()
                print(select(2, pcall(c.post, c, "SET", "greeting", 1)).kind, c:get "greeting") --> usage	hello
            ]]
        end)

        it("a write that the server would refuse for its arguments, and an unreachable server", function()
            prints [[
                print(select(2, pcall(r.set, r, "a")).message) --> ERR wrong number of arguments for 'set' command
                print(select(2, pcall(r.mset, r, "a", 1, "b")).code) --> ERR
                print(select(2, pcall(r.set, r, "a", nil)).kind) --> usage
                local closed = redis.client { url = os.getenv "REDIS_URL" } closed:close()
                print(select(2, pcall(closed.set, closed, "a", 1)).message) --> redis: this client is closed
                local nobody = redis.client { path = "/nowhere/redis.sock" }
                print(select(2, pcall(nobody.set, nobody, "a", 1)).kind) --> connect
                print(select(2, pcall(nobody.pipeline, nobody, function(p) p:set("a", 1) end)).kind) --> connect
            ]]
        end)
    end)

    describe("grants locks", function()
        it("that nobody holds, and keeps its own tasks apart", function()
            r:set("{report}:fence", 4)
            prints [[
                local l = r:lock("report", { ttl = 30, fence = true })
                print(l:valid(), l.fence, l:extend(60)) --> true	5	true
                local message = select(2, pcall(r.lock, r, "report")).message
                print(message) --> redis: the lock 'report' is held by another client (waited 0 s)
                print(l:release(), l:release(), r:lock("report", { fence = true }).fence) --> true	false	6
                print(r:lock("other", { auto_extend = true }, function(o) return o.name end)) --> other
                local n = 0
                local function once() local o <close> = r:lock("turn", { wait = 5 }) n = n + 1 end
                task.all { once, once } print(n) --> 2
            ]]
        end)

        it("of each database separately", function()
            prints [[
                local other = redis.client { url = os.getenv "REDIS_URL" .. "?db=1" }
                local l = r:lock "report"
                print(other:lock "report":release(), l:release()) --> true	true
            ]]
        end)

        it("except those that another client holds", function()
            local held <close> = r:lock("report", { ttl = 30 })
            local result <const> = run 'r:lock "report"'
            assert.match("the lock 'report' is held by another client", result.stderr, 1, true)
            assert.is_true(held:valid())
        end)
    end)

    it("lists each pattern of keys once, and counts the keys at the end", function()
        local told <const> = prints [[
            for i = 1, 120 do r:set("cache:user:" .. i, "x") end
            for i = 1, 120 do r:expire("cache:user:" .. i, 60) end
            for c in ("abcdefghijklmnop"):gmatch "." do r:del("by:" .. c .. ":x") end
            r:del("one", "two") r:set("one", 1) r:set("one", 2) r:flushdb()
            for _ = 1, 3 do r:publish("news", "x") end
            r:set("a\nb\27[2J", 1)
            print "done" --> done
        ]]
        local lines = {}
        for line in told:gmatch "[^\n]+" do lines[#lines + 1] = line end
        local text <const> = table.concat(lines, "\n")
        local _, count <const> = text:gsub("dry run: redis: SET cache", "")
        assert.equal(1, count)
        assert.match("dry run: redis: DEL one (2 keys)\n", text, 1, true)
        assert.match([[dry run: redis: SET a\nb\x1b[2J]], text, 1, true)
        for row in ([[
            SET cache:user:* 120 keys; EXPIRE cache:user:* 120 keys; DEL by:*:x 16 keys; DEL one; SET one 2 times;
            FLUSHDB; PUBLISH news 3 times; SET a\nb\x1b[2J]]):gmatch "[^;]+" do
            local found = false
            for _, line in ipairs(lines) do
                found = found or line:gsub("%s+", " ") == " redis " .. row:match "^%s*(.-)%s*$"
            end
            assert.is_true(found, row .. " is missing in\n" .. text)
        end
    end)

    it("says that nothing would have changed when it only read", function()
        assert.equal("dry run: nothing would have changed\n", prints 'print(r:get "greeting") --> hello')
    end)
end)
