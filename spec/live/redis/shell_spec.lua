-- `dbrun redis`, compared with the output of redis-cli.
local core = require "dbrun.core"
local fails = require "spec.support.fails"
local fs = require "dbrun.fs"
local json = require "dbrun.json"
local process = require "dbrun.process"
local redirect = require "dbrun.redis.redirect"
local redis = require "dbrun.redis"
local redis_cluster = require "spec.support.redis_cluster"
local redis_server = require "spec.support.redis_server"
local render = require "dbrun.redis.shell.render"
local run = require "dbrun.redis.shell.run"
local scripts = require "spec.support.scripts"
local terminal = require "spec.support.terminal"
local words = require "dbrun.redis.shell.words"

local BINARY <const> = "\1\2\a\b\t\r\n\27[31m\"\\'\x7f\x80\xffé☃"

---Replies of all types, also nested and empty ones.
local COMMANDS <const> = {
    { "PING" }, { "ECHO", BINARY }, { "ECHO", "" }, { "SET", "k", BINARY }, { "GET", "k" }, { "GET", "nothing" },
    { "STRLEN", "k" }, { "TYPE", "k" }, { "RPUSH", "l", "a", "", BINARY, "\n" }, { "LRANGE", "l", "0", "-1" },
    { "LRANGE", "nothing", "0", "-1" }, { "MGET", "nothing", "k", "nothing" }, { "HSET", "h", "a", "1", "b", "2" },
    { "HGETALL", "h" }, { "ZADD", "z", "1.5", "a", "-inf", "b" }, { "ZRANGE", "z", "0", "-1", "WITHSCORES" },
    { "ZSCORE", "z", "a" }, { "XADD", "s", "1-1", "f", "v", "g", "w" }, { "XADD", "s", "1-2", "f", "v" },
    { "XRANGE", "s", "-", "+" }, { "XREAD", "STREAMS", "s", "0" }, { "SCAN", "0", "MATCH", "nothing" },
    { "EVAL", "return {1, {2, {3, false, {}}, redis.status_reply('fine')}, 'x'}", "0" },
    { "EVAL", "local t = {} for i = 1, 11 do t[i] = {i, 'x'} end return t", "0" },
    { "CONFIG", "GET", "maxmemory" }, { "COMMAND", "INFO", "get", "nope" }, { "GEOADD", "g", "1", "2", "x" },
    { "GEOPOS", "g", "x", "y" }, { "OBJECT", "ENCODING", "l" }, { "DEL", "k", "l" },
    { "EVAL", "return {redis.error_reply('ERR inside')}", "0" },
}

describe("dbrun redis", function()
    local server, client
    redis_server.around(_ENV, function(...) server, client = ... end)

    local function dbrun(args, more)
        return scripts.run("redis", args, { REDIS_URL = server.url }, more)
    end

    local function cli(...)
        return process.run({ "redis-cli", "-s", server.socket, ... }).stdout
    end

    it("prints replies as redis-cli does", function()
        for _, how in ipairs { { "--no-raw", "text" }, { "--raw", "raw" } } do
            local theirs = {}
            for i, command in ipairs(COMMANDS) do theirs[i] = cli(how[1], table.unpack(command)) end
            client:flushall()
            for i, command in ipairs(COMMANDS) do
                assert.equal(theirs[i], render[how[2]](run.call(client, command)), table.concat(command, " "))
            end
            client:flushall()
        end
    end)

    it("prints raw values byte by byte, and quotes them on a terminal", function()
        client:set("k", BINARY)
        local result = dbrun { "GET", "k" }
        assert.equal(BINARY .. "\n", result.stdout)
        assert.equal(cli("--raw", "GET", "k"), result.stdout)
        assert.equal(cli("--no-raw", "GET", "k"), dbrun({ "--format", "text", "get", "k" }).stdout)
        client:set("k", "\27[31mred\7")
        local term <close> = terminal.start(("env REDIS_URL=%s lua %s GET k"):format(server.url,
            fs.realpath "scripts/redis.lua"))
        term:expect '"\\x1b%[31mred\\a"\n'
        term:ends(0)
        assert.is_nil(term:text():find("\27[31m", 1, true))
    end)

    it("gives JSON that keeps each byte", function()
        client:hset("h", { name = "Ada", ["ключ"] = "v", bin = "\xff\0" })
        local result = dbrun { "--format", "json", "HGETALL", "h" }
        assert.same({ name = "Ada", ["ключ"] = "v", bin = { base64 = "/wA=" } }, json.decode(result.stdout))
        client:hset("h", "\xfe", "x")
        assert.equal(8, #json.decode(dbrun({ "--format", "json", "HGETALL", "h" }).stdout))
        assert.equal("{}\n", dbrun({ "--format", "json", "HGETALL", "nothing" }).stdout)
        assert.equal("[]\n", dbrun({ "--format", "json", "LRANGE", "nothing", "0", "-1" }).stdout)
        assert.equal("null\n", dbrun({ "--format=json", "GET", "nothing" }).stdout)
        assert.equal('"OK"\n', dbrun({ "--format", "json", "SET", "k", "1" }).stdout)
        assert.equal('[1,null,{"error":"ERR inside"}]\n', dbrun({ "--format", "json", "EVAL",
            "return {1, false, redis.error_reply('ERR inside')}", "0" }).stdout)
    end)

    it("prints an error of the server on stderr, with status 1", function()
        client:set("k", "v")
        local result = dbrun { "LPUSH", "k", "x" }
        assert.same({ 1, "" }, { result.code, result.stdout })
        assert.matches("^redis: WRONGTYPE ", result.stderr)
        result = dbrun { "NOSUCH", "x" }
        assert.same({ 1, "" }, { result.code, result.stdout })
        assert.matches("unknown command", result.stderr)
        result = dbrun({ "PING" }, nil)
        assert.equal(0, result.code)
        result = scripts.run("redis", { "PING" }, { REDIS_URL = "unix:///nowhere.sock" })
        assert.same({ 1, "" }, { result.code, result.stdout })
    end)

    it("passes all words after the command unchanged", function()
        assert.equal("OK\n", dbrun({ "SET", "k", "--format" }).stdout)
        assert.equal("--format", client:get "k")
        assert.equal("OK\n", dbrun({ "SET", "-x", "" }).stdout)
        assert.equal("", client:get "-x")
        assert.equal("OK\n", dbrun({ "-x", "SET", "k" }, { stdin = BINARY .. "\n" }).stdout)
        assert.equal(BINARY .. "\n", client:get "k")
        local result = dbrun { "--formt", "json", "GET", "k" }
        assert.equal(2, result.code)
        assert.matches("%-%-format", result.stderr)
        assert.equal(2, dbrun({}).code)
        assert.equal(2, dbrun({ "--format", "xml", "GET", "k" }).code)
        assert.equal(0, dbrun({ "--help" }).code)
    end)

    it("refuses commands that cannot run alone, with a hint", function()
        for _, command in ipairs { { "SELECT", "1" }, { "multi" }, { "MONITOR" }, { "AUTH", "x" },
            { "client", "reply", "off" }, { "get k" }, { "-h", "localhost", "DEL", "k" }, { "SUBSCRIBE" },
            { "WAIT", "0", "1" }, { "ASKING" } } do
            local result = dbrun(command)
            assert.equal(2, result.code, command[1])
            assert.matches("^redis: [^r]", result.stderr)
            assert.matches("help: ", result.stderr)
        end
    end)

    it("refuses to write with --read-only", function()
        local function read_only(...)
            local spec = scripts.command("redis", { ... }, { REDIS_URL = server.url })
            table.insert(spec, 2, "--read-only")
            return process.run(spec)
        end
        local result = read_only("SET", "k", "v")
        assert.same({ 2, "" }, { result.code, result.stdout })
        assert.is_nil(client:get "k")
        assert.equal("PONG\n", read_only("PING").stdout)
    end)

    it("waits for blocking commands", function()
        local waiting = scripts.start("redis", { "BLPOP", "queue", "0" }, { REDIS_URL = server.url })
        redis_server.wait_until(30, function() return client:client("LIST"):find("cmd=blpop", 1, true) end)
        client:rpush("queue", "job")
        assert.equal("queue\njob\n", waiting.finish().stdout)
    end)

    it("prints messages until it is interrupted", function()
        local folder <const> = fs.mkdtemp(fs.join(fs.tempdir(), "dbrun-redis-"))
        finally(function() fs.rmtree(folder) end)
        local path <const> = folder .. "/out"
        local child <close> = process.start(scripts.command("redis", { "PSUBSCRIBE", "news.*" },
            { REDIS_URL = server.url }, { stdout = path, stderr = "null" }))
        redis_server.wait_until(30, function() return client:pubsub "NUMPAT" == 1 end)
        client:publish("news.a", "first")
        local expected <const> = "psubscribe\nnews.*\n1\npmessage\nnews.*\nnews.a\nfirst\n"
        redis_server.wait_until(30, function() return fs.read(path) == expected end)
        assert.equal(expected, fs.read(path))
        child:kill "INT"
        assert.equal(130, child:wait(30).code)
    end)

    it("splits a typed line into words as redis-cli does", function()
        for line, expected in pairs {
            ['set k "a b\\x41\\n\\q\\""'] = { "set", "k", 'a bA\nq"' }, ["  get   k  "] = { "get", "k" },
            ["set 'it\\'s \\n' \"\""] = { "set", "it's \\n", "" }, [""] = {}, ["a\"b\""] = { "ab" },
            ['"\\xff\\x00"'] = { "\xff\0" }, ["'\\\\ '"] = { "\\\\ " },
        } do
            assert.same(expected, words.split(line), line)
        end
        for _, line in ipairs { '"open', "'open", '"a"b', "'a'b", '"\\', "'\\\\'" } do
            local found, why = words.split(line)
            assert.is_nil(found, line)
            assert.matches("quote", why)
        end
    end)

    it("keeps types and replies on a cluster", function()
        local cluster = redis_cluster.start()
        finally(function() cluster:stop() end)
        local r <close> = redis.client { url = cluster.url or cluster:address() }
        assert.same({ status = "OK" }, run.call(r, { "SET", "a", "OK" }))
        assert.equal("OK", run.call(r, { "GET", "a" }))
        assert.same({ status = "OK" }, run.call(r, { "MSET", "a", "1", "b", "2", "c", "3" }))
        assert.equal('1) "1"\n2) (nil)\n3) "3"\n', render.text(run.call(r, { "MGET", "a", "x", "c" })))
        assert.equal(3, run.call(r, { "DBSIZE" }))
        assert.equal("string\n", render.text(run.call(r, { "TYPE", "a" })))
        assert.same({ status = "OK" }, run.call(r, { "FLUSHALL" }))

        -- The calls have no time limit; an endless migration, and a slot without a node, are errors nevertheless.
        local patience <const> = redirect.PATIENCE
        redirect.PATIENCE = 0.2
        finally(function() redirect.PATIENCE = patience end)
        local slot <const> = core.redis.slot "t"
        local from, to
        for _, node in ipairs(cluster.nodes) do
            if node:cli("set", "{t}1", "x"):find "OK" then from = node
            elseif node:cli("role"):find "master" then to = node end
        end
        local function id(node) return (node:cli("cluster", "myid"):gsub("%s", "")) end
        to:cli("cluster", "setslot", slot, "importing", id(from))
        from:cli("cluster", "setslot", slot, "migrating", id(to))
        assert.same({ status = "OK" }, run.call(r, { "SET", "{t}3", "y" })) -- ASK
        local tried <const> = fails("redis", run.call, r, { "MGET", "{t}1", "{t}2" })
        assert.equal("TRYAGAIN", tried.code)
        assert.matches("migrat", tried.hint)
        assert.equal("TRYAGAIN", fails("redis", run.call, r, { "RENAME", "{t}1", "{t}2" }).code)
        for _, node in ipairs(cluster.nodes) do
            node:cli("config", "set", "cluster-require-full-coverage", "no")
            node:cli("cluster", "delslots", core.redis.slot "a")
        end
        assert.equal("CLUSTERDOWN", fails("redis", run.call, r, { "GET", "a" }).code)
        assert.equal("CLUSTERDOWN", fails("redis", run.call, r, { "MSET", "a", "1", "{t}1", "2" }).code)
    end)
end)
