-- Values and texts that are too large or malformed for PostgreSQL, a program without free descriptors, and a clock that
-- jumps.
local core = require "dbrun.core"
local db = require "dbrun.db"
local errors = require "dbrun.error"
local folder = require "spec.support.servers.folder"
local fs = require "dbrun.fs"
local pg = require "spec.support.pg"
local process = require "dbrun.process"
local task = require "dbrun.task"

local MB <const> = 1 << 20

--- Runs a script in a separate dbrun: `source` after a prelude that both engines use, arguments before it.
local function script(words, env, source)
    local spec <const> = { table.unpack(words) }
    table.move({ core.options.program, "--no-env", "-" }, 1, 3, #spec + 1, spec)
    spec.stdin, spec.env, spec.timeout = source, env, 60
    local result <const> = process.run(spec)
    result.text = result.stdout .. result.stderr
    return result
end

local a_gigabyte

--- Made once, because making it takes longer than all uses.
local function gigabyte()
    a_gigabyte = a_gigabyte or ("x"):rep(1 << 20):rep(1 << 10) -- in pieces, which takes a fraction of the time
    return a_gigabyte
end

teardown(function()
    a_gigabyte = nil
    collectgarbage()
end)

pg.on_both(describe, function(mode, open)
    describe("data that PostgreSQL cannot take", function()
        local e, pid

        setup(function()
            e = open { size = 1, command_timeout = 120 } -- large values take long on a small machine
            pid = e:value "select pg_backend_pid()"
        end)
        teardown(function()
            e:close()
        end)

        --- Refused before anything is sent, and the same connection stays usable.
        local function refused(pattern, fn, ...)
            local problem <const> = pg.raised(fn, ...)
            assert.is_true(errors.is(problem, "usage"), tostring(problem))
            assert.matches(pattern, problem.message)
            assert.equal(pid, e:value "select pg_backend_pid()")
            return problem
        end

        it("is invalid UTF-8 in a value", function()
            for _, text in ipairs { "a\xff", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "\x80" } do
                refused("%$2 is not valid UTF%-8", e.value, e, "select $1, $2::text", 1, text)
                refused("UTF%-8", e.value, e, "select :a", { a = text })
                refused("UTF%-8", function() return e:value("select $1", db.array { "x", text }) end)
            end
            assert.equal("\xff\0", e:value("select $1", db.bytea "\xff\0"))
        end)

        it("is a NUL byte in a text, in the SQL or in a name", function()
            refused("%$1 contains a NUL", e.value, e, "select $1::text", "a\0b")
            refused("NUL", e.value, e, "select :a", { a = "\0" })
            refused("NUL", e.value, e, "select 'a\0b'")
            refused("NUL", e.exec, e, "select 1; select 'a\0b'")
            refused("NUL", db.ident, "a\0b")
            refused("NUL", db.ident, { "public", "a\0b" })
            refused("NUL", e.copy_in, e, "a\0b", nil, {})
        end)

        it("in the SQL itself is an error of the statement", function()
            for _, sql in ipairs { "select '\xff'", "select 1 as " .. db.ident "a\xff" } do
                local problem <const> = pg.raised(e.value, e, sql)
                assert.equal("22021", problem.sqlstate)
                assert.equal("failed", problem.outcome)
            end
            local problem <const> = pg.raised(e.value, e, "select $1::jsonb", db.json { "\0" })
            assert.equal("22P05", problem.sqlstate)
            assert.equal(pid, e:value "select pg_backend_pid()")
        end)

        it("is 65,536 parameters; 65,535 are taken", function()
            local values <const> = {}
            for i = 1, 65535 do values[i] = i end
            local list <const> = {}
            for i = 1, 65535 do list[i] = ("($%d::int)"):format(i) end
            local sql <const> = "select count(*) from (values " .. table.concat(list, ",") .. ") v(i)"
            assert.equal(65535, e:value(sql, table.unpack(values)))
            values[65536] = 1
            refused("65,?535", e.value, e, sql, table.unpack(values))
        end)

        it("is 1 GiB, as one value, as several, or as SQL; 200 MB there and back are no matter", function()
            local value <const> = ("x"):rep(MB):rep(200)
            assert.is_true(e:value("select $1::text", value) == value)
            local problem <const> = refused("%$6 and those before it are 1 GiB together", e.value, e,
                "select $1, $2, $3, $4, $5, $6", value, value, value, value, value, value)
            assert.is_string(problem.hint)
            refused("%$1 is 1 GiB", e.value, e, "select $1::text", gigabyte())
            refused("1 GiB", function() return e:value("select $1", db.bytea(gigabyte())) end)
            refused("1 GiB", e.exec, e, gigabyte())
        end)

        it("is a result of 1 GiB, which the server refuses", function()
            local problem <const> = pg.raised(e.value, e, "select repeat('x', 1 << 30)")
            assert.equal("54000", problem.sqlstate)
            assert.equal(pid, e:value "select pg_backend_pid()")
        end)
    end)

    it("with no descriptor left the error says so, and freed descriptors are used again", function()
        local result <const> = script({ "sh", "-c", "ulimit -n 32 && exec \"$@\"", "sh" },
            { DATABASE_URL = pg.url(), MODE = mode }, [[
            local db, fs = require "dbrun.db", require "dbrun.fs"
            local url, mode = os.getenv "DATABASE_URL", os.getenv "MODE"
            local e <close> = db.engine { url = url, mode = mode, size = 60, overflow = 0, timeout = 5 }
            local held, problem = {}, nil
            while not problem do
                local ok, c = pcall(e.acquire, e)
                if ok then held[#held + 1] = c else problem = c end
                assert(#held < 32, "more connections opened than the descriptors allow")
            end
            print(#held > 5, problem.kind, problem.outcome)
            print(tostring(problem))
            for _, c in ipairs(held) do
                assert(c:value "select 1" == 1) -- those that are open are not touched
                c:release()
            end
            print(e:value "select 1", e:stats().leased)
            e:dispose()
            local f <const> = assert(io.open("/dev/null"))
            f:close()
            print(e:value "select 2", e:stats().opening)]])
        assert.equal(0, result.code, result.text)
        assert.matches("^true\tconnect\tnot_sent\n", result.stdout, nil, result.text)
        assert.matches("[Tt]oo many open files", result.stdout)
        assert.matches("HINT: [^\n]*ulimit", result.stdout)
        assert.matches("\n1\t0\n2\t0\n$", result.stdout)
    end)
end)

-- ---- a clock that jumps ----

local function clock_library()
    local path <const> = folder.new "clock" .. "/clockjump.so"
    local result <const> = process.run { os.getenv "CC" or "cc", "-std=c11", "-D_GNU_SOURCE", "-O1", "-shared", "-fPIC",
        "-o", path, "spec/support/c/clockjump.c", timeout = 60 }
    assert(result.ok, result.stderr)
    return path
end

--- Uses everything with a time limit, while the wall clock jumps forth and back by years.
local JUMPS <const> = [[
local db = require "dbrun.db"
local task = require "dbrun.task"
local url, file = os.getenv "DATABASE_URL", os.getenv "CLOCK_FILE"

local function jump(seconds)
    local before = os.time()
    local f <close> = assert(io.open(file, "wb"))
    f:write(tostring(seconds), "\n")
    f:close()
    assert(math.abs(os.time() - before) > 86400, "the clock did not jump")
end

local far = { 3e8, -3e8, 0, 2e9 - os.time(), -os.time() + 86400 * 2 }
for i, offset in ipairs(far) do far[i] = math.floor(offset) end

for _, mode in ipairs { "async", "sync" } do
    local e <close> = db.engine { url = url, mode = mode, size = 2, recycle = 3600, pre_ping_idle = 3600,
        command_timeout = 10 }
    local pid = e:value "select pg_backend_pid()"
    for _, offset in ipairs(far) do
        local start = task.now()
        jump(offset)
        assert(e:value "select pg_sleep(0.02)::text" == "")
        assert(task.now() - start < 5, "the monotonic clock jumped, too")
        assert(e:value "select pg_backend_pid()" == pid, "a jump of the clock aged the connection")
        -- A limit is neither over at once nor for ever away.
        start = task.now()
        local other <close> = db.engine { url = url, mode = mode, command_timeout = 0.1 }
        local ok, problem = pcall(other.value, other, "select pg_sleep(30)")
        assert(not ok and problem.kind == "timeout", tostring(problem))
        assert(task.now() - start >= 0.1 and task.now() - start < 10)
    end
    print(mode, e:stats().recycled, e:stats().timeouts)
end

local ticks, g = 0, task.group()
local ticker = g:spawn(function()
    while true do task.sleep(0.01); ticks = ticks + 1 end
end)
for _, offset in ipairs(far) do
    local before, start = ticks, task.now()
    jump(offset)
    task.sleep(0.1)
    assert(ticks > before and ticks - before < 12, "the ticker stopped or raced")
    assert(task.now() - start >= 0.1)
    assert(not pcall(task.timeout, 0.05, task.sleep, 30))
end
ticker:cancel()
pcall(g.wait, g)
print "steady"
]]

it("jumps of the clock do not affect timers, time limits and the age of connections", function()
    if os.getenv "ASAN_OPTIONS" then return pending "the sanitizers' library will not have another before it" end
    local library <const> = clock_library()
    local dir <const> = fs.dirname(library)
    fs.write(dir .. "/clock", "0\n")
    local result <const> = script({ "env" }, { LD_PRELOAD = library, CLOCK_FILE = dir .. "/clock",
        DATABASE_URL = pg.url() }, JUMPS)
    fs.rmtree(dir)
    assert.equal(0, result.code, result.text)
    assert.equal("async\t0\t0\nsync\t0\t0\nsteady\n", result.stdout, result.text)
    assert.is_true(task.now() > 0)
end)
