--- A script can set any locale (os.setlocale). Data to and from a server does not depend on it: numbers have a decimal
--- point, and only ASCII letters are letters.
local core = require "dbrun.core"
local fs = require "dbrun.fs"
local pg = require "spec.support.pg"
local process = require "dbrun.process"
local servers = require "spec.support.servers"

--- Prints everything that it reads in hexadecimal, so that the script itself prints no number in the locale.
local SCRIPT <const> = [=[
assert(os.setlocale(arg[1]), "there is no locale " .. arg[1])
local db, redis, json = require "dbrun.db", require "dbrun.redis", require "dbrun.json"
local function show(v)
    if math.type(v) == "float" then return "float " .. string.pack(">d", v):gsub(".", function(c)
        return ("%02x"):format(c:byte())
    end) end
    if type(v) ~= "table" then return math.type(v) == "integer" and ("%d"):format(v) or tostring(v) end
    local keys = {}
    for k in pairs(v) do keys[#keys + 1] = k end
    table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
    for i, k in ipairs(keys) do keys[i] = tostring(k) .. "=" .. show(v[k]) end
    return "{" .. table.concat(keys, " ") .. "}"
end
local function say(what, v) print(what, show(v)) end

for _, mode in ipairs { "async", "sync" } do
    local e <close> = db.engine { url = os.getenv "PG", mode = mode, size = 1, overflow = 0 }
    for n = 1, 3 do -- text, then binary
        say(mode .. n, e:one [[select 1.75::float8 f8, 0.1::float4 f4, -3.5e-7::float8 tiny, 1e300::float8 great,
            '{1.5,NULL,2.25}'::float8[] list, '[1.5,2.5)'::numrange range, '{"a":1.25,"b":[2.5]}'::jsonb doc,
            1.50::numeric num, 123456789012::int8 whole, '{t,NULL,"null"}'::text[] words, row(1.5) r]])
        say("sent", e:one("select $1::float8 a, $2::float8[] b, $3::jsonb c, $4::numeric d, $5::text e", 0.1,
            db.array({ 1.5, 2.25 }, "float8"), db.json { x = 1.25 }, db.typed(2.5, "numeric"), 1e-7))
    end
    for row in e:rows("select i + 0.25::float8 as v from generate_series(1, 2) i") do say("row", row) end
    say("columns", e:columns("select 0.5::float8 as v"))
    say("pipeline", e:pipeline(function(p) p:query("select $1::float8 as v", 0.75) end))
    e:exec "create table if not exists numbers(f float8, g float4, n numeric, b bool, j jsonb, a float8[])"
    e:exec "truncate numbers"
    e:execute_many("insert into numbers(f, g, n) values($1, $2, $3)", { { 1.5, 2.25, 3.125 }, { 0.1, 0.2, 0.3 } })
    e:copy_in("numbers", { "f", "g", "n", "b", "j", "a" }, {
        { 1.5, "2.5", "3.25e0", "TRUE", { x = 0.5 }, { 1.5, 2.5 } }, { "1.5", 2.5, 1e-3, "f", { 1.5 }, { 0.1 } },
    })
    e:copy_in("numbers", { "f", "n" }, { { 1.5, 0.1 } }, { format = "text" })
    say("stored", e:query "select f::text, g::text, n::text, b, j::text, a::text from numbers")
    for row in e:copy_out "select f, g, a from numbers" do say("out", row) end
    for row in e:copy_out("select f, g, a from numbers", { format = "text" }) do say("out", row) end
end
say("json", json.decode '[1.5, -2.5e-3, {"a": 0.1}, 1e2]')
say("json", json.encode { 1.5, 1e300, 0.1 })
local r = redis.client { url = os.getenv "REDIS" }
r:set("number", 1.5)
say("redis", r:get "number")
r:zadd("scores", 1.25, "a", 0.1, "b", "inf", "c")
say("redis", r:zscore("scores", "a"))
say("redis", r:zrange("scores", 0, -1, "WITHSCORES"))
say("redis", r:incrbyfloat("number", 0.25))
for member, score in r:zscan "scores" do say(member, score) end
say("redis", r:call("info", "server") ~= nil)
r:close()
]=]

describe("the locale of the script", function()
    local dir, url, redis_url

    setup(function()
        dir = fs.mkdtemp()
        for name, charmap in pairs { de_DE = "UTF-8", ps_AF = "UTF-8", tr_TR = "ISO-8859-9" } do
            local made <const> = process.run {
                "localedef", "-i", name, "-f", charmap, ("%s/%s.%s"):format(dir, name, charmap), timeout = 60,
            }
            assert(made.code == 0, made.stderr)
        end
        fs.write(dir .. "/script.lua", SCRIPT)
        url, redis_url = pg.url(), servers.redis_db()
    end)

    teardown(function()
        fs.rmtree(dir)
    end)

    local function run(locale)
        local result <const> = process.run {
            core.options.program or "build/dbrun", "--no-env", dir .. "/script.lua", locale,
            env = { LOCPATH = dir, PG = url, REDIS = redis_url }, timeout = 120,
        }
        assert(result.code == 0, result.stderr)
        return result.stdout
    end

    local expected

    it("is C at first", function()
        expected = run "C"
        assert.truthy(expected:find("f8=float 3ffc000000000000", 1, true))
    end)

    for what, locale in pairs {
        ["has a decimal comma"] = "de_DE.UTF-8",
        ["has a decimal sign of two bytes"] = "ps_AF.UTF-8",
        ["has other lower case letters"] = "tr_TR.ISO-8859-9",
    } do
        it("can be one that " .. what, function()
            assert.equal(expected or run "C", run(locale))
        end)
    end
end)
