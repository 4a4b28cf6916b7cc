-- Hooks before and after seeds and a verification: when they run, what they know, and the effect of their failure.
local fs = require "dbrun.fs"
local migrations = require "spec.support.migrations"
local scripts = require "spec.support.scripts"

describe("hooks of seeds", function()
    local url, sql, dir
    migrations.around(_ENV, function(address, _, ask) url, sql = address, ask end)

    local function project(files)
        dir = migrations.folder(files)
        fs.mkdir_p(dir .. "/s")
        sql "create table if not exists seen (n serial, what text)"
    end

    local function seed(...)
        return scripts.run("seed", { "--dir", dir .. "/s", "--hooks", dir .. "/h", ... }, { DATABASE_URL = url })
    end

    local function seen()
        local list = sql "select coalesce(string_agg(what, ' ' order by n), '') from seen"
        sql "truncate seen"
        return list
    end

    local NOTE <const> = [[local ctx = ...
        local words = { ctx.event }
        for _, seed in ipairs(ctx.seeds) do
            local how = seed.unchanged or seed.seconds > 0 and "ran"
            words[#words + 1] = ("%s=%s/%s"):format(seed.name, seed.result, how)
        end
        words[#words + 1] = ctx.error and ctx.error.sqlstate
        words[#words + 1] = ctx.dry_run and "dry" or nil
        ctx:query("insert into seen (what) values ($1)", table.concat(words, ","))]]

    it("run before and after them, and get the list of seeds that ran", function()
        project { ["s/1_a.lua"] = "return function() return 3 end", ["h/beforeSeed.lua"] = NOTE,
            ["h/afterSeed.lua"] = NOTE, ["h/afterSeed__2.sql"] = "insert into seen (what) values ('sql')" }
        local result = seed()
        assert.equal(0, result.code, result.text)
        assert.equal("beforeSeed afterSeed,1_a=3/ran sql", seen())
        assert.equal(0, seed().code)
        assert.equal("beforeSeed afterSeed,1_a=nil/true sql", seen())
    end)

    it("are rolled back with a dry run, and know that it is one", function()
        project { ["s/1_a.lua"] = "return function() return 3 end", ["h/beforeSeed.lua"] =
            "local ctx = ... io.stdout:write(ctx.dry_run and 'dry\\n' or '')" .. NOTE:gsub("^local ctx = ...", "") }
        assert.matches("dry\n", seed("--dry-run").stdout)
        assert.equal("", seen())
    end)

    it("get the error, and do not hide it when they fail", function()
        project { ["s/1_a.sql"] = "insert into seen (what) values ('seeded')", ["s/2_b.sql"] = "select 1 / 0",
            ["h/afterSeedError.lua"] = NOTE, ["h/afterSeedError__2.sql"] = "select nonsense" }
        local result = seed()
        assert.equal(1, result.code)
        assert.matches("division by zero", result.stderr, 1, true)
        assert.matches("The hooks for afterSeedError failed, too: .*nonsense", result.stderr)
        assert.matches("^seeded afterSeedError,1_a=.*,22012$", seen())
    end)

    it("do not end the program, nor do seeds", function()
        for name, code in pairs { ["h/beforeSeed.lua"] = "os.exit(0)",
            ["s/1_a.lua"] = "return function() os.exit() end", ["s/2_a.lua"] = "os.exit(0)" } do
            project { ["s/3_a.sql"] = "select 1", ["h/afterSeed.sql"] = "select 1", [name] = code }
            local result = seed()
            assert.equal(1, result.code, result.text)
            assert.matches(name .. " called os.exit", result.stderr, 1, true)
        end
    end)

    it("that fail are named with their file, and the work that stays", function()
        project { ["s/1_a.sql"] = "insert into seen (what) values ('seeded')",
            ["h/beforeSeed.sql"] = "select nonsense" }
        local result = seed()
        assert.equal(1, result.code)
        assert.matches("h/beforeSeed.sql:1: column", result.stderr, 1, true)
        assert.matches("It is a hook; no seed was run.", result.stderr, 1, true)
        assert.equal("", seen())
        fs.rename(dir .. "/h/beforeSeed.sql", dir .. "/h/afterSeed.sql")
        result = seed()
        assert.equal(1, result.code)
        assert.matches("h/afterSeed.sql:1: column", result.stderr, 1, true)
        assert.matches("It is a hook; 1 seed ran before it, and that stays.", result.stderr, 1, true)
        assert.equal("seeded", seen())
        fs.write(dir .. "/h/afterSed.sql", "")
        assert.equal(2, seed().code)
    end)
end)

describe("hooks of verify", function()
    local url, sql, dir
    migrations.around(_ENV, function(address, _, ask) url, sql = address, ask end)

    local function verify(files, address, ...)
        dir = migrations.folder(files)
        return scripts.run("verify", { "--only", "configuration,postgres.async", "--hooks", dir .. "/h", ... },
            { DATABASE_URL = address or url })
    end

    local TELL <const> = [[return function(ctx)
        local words = { ctx.event, tostring(ctx.status) }
        for _, result in ipairs(ctx.results or {}) do words[#words + 1] = result.name .. "=" .. result.status end
        io.stdout:write(table.concat(words, " "), "\n")
    end]]

    it("run before and after the checks, and know the results", function()
        sql "create table checked (at timestamptz default now())"
        local result = verify { ["h/beforeVerify.lua"] = TELL, ["h/afterVerify.lua"] = TELL,
            ["h/afterVerify__keep.sql"] = "insert into checked default values" }
        assert.equal(0, result.code, result.text)
        assert.matches("^beforeVerify nil\nafterVerify 0 configuration=PASS postgres.async=PASS\n", result.stdout)
        assert.equal("1", sql "select count(*) from checked")
    end)

    it("run in Lua without a server, too", function()
        local result = verify({ ["h/afterVerify.lua"] = TELL }, "postgresql://127.0.0.1:1/x")
        assert.equal(1, result.code, result.text)
        assert.matches("afterVerify 1 configuration=PASS postgres.async=FAIL\n", result.stdout, 1, true)
    end)

    it("pass no session state to the checks", function()
        sql "create table public.t1 (a int); create role hooked login in role pg_monitor"
        local files = { ["e.lua"] = "return { { table = 't1', columns = { 'a integer' } } }",
            ["h/beforeVerify.sql"] = "set search_path = nowhere; set statement_timeout = 1; set role hooked",
            ["h/beforeVerify__2.lua"] = "(...).db:exec [[create temp table t1 (x int); set statement_timeout = 3]]" }
        dir = migrations.folder(files)
        local result = scripts.run("verify", { "--only", "postgres.server,schema.columns", "--strict", "--hooks",
            dir .. "/h", "--expect", dir .. "/e.lua" }, { DATABASE_URL = url })
        sql "drop role hooked"
        assert.equal(0, result.code, result.text)
        assert.matches("PASS  postgres.async +%S+ ms  dbrun@", result.stdout)
    end)

    it("that cannot reach the server leave it to the checks to say why", function()
        local result = verify({ ["h/beforeVerify.sql"] = "select 1", ["h/afterVerify.sql"] = "select 1" },
            "postgresql://127.0.0.1:1/x")
        assert.equal(1, result.code, result.text)
        assert.matches("SKIP  hooks.beforeVerify +%S+ ms  needs postgres.async", result.stdout)
        assert.matches("SKIP  hooks.afterVerify +%S+ ms  needs postgres.async", result.stdout)
        assert.equal(1, select(2, result.stdout:gsub("Connection refused", "")))
    end)

    it("leave it to the checks to say that the configuration is wrong", function()
        dir = migrations.folder { ["h/beforeVerify.sql"] = "select 1",
            ["h/afterVerify.lua"] = "return function(ctx) ctx.db:value 'select 1' end" }
        local result = scripts.run("verify", { "--only", "configuration,postgres.async", "--hooks", dir .. "/h" },
            { DATABASE_URL = url, DB_POOL_SIZE = "many" })
        assert.equal(2, result.code, result.text)
        assert.matches("SKIP  hooks.beforeVerify +%S+ ms  needs configuration", result.stdout)
        assert.matches("SKIP  hooks.afterVerify +%S+ ms  needs configuration", result.stdout)
        assert.equal(1, select(2, result.stdout:gsub("DB_POOL_SIZE", "")))
    end)

    it("do not end the program, nor do the expectations", function()
        for name, code in pairs { afterVerify = "os.exit(0)", beforeVerify = "return function() os.exit() end" } do
            local result = verify({ ["h/" .. name .. ".lua"] = code }, "postgresql://127.0.0.1:1/x")
            assert.equal(1, result.code, result.text)
            assert.matches(("h/%s.lua:1: the hook %%S+ called os.exit"):format(name), result.text)
        end
        for code, status in pairs { ["os.exit(0)"] = 2,
            ["return { { check = 'own', run = function() os.exit(0) end } }"] = 1 } do
            dir = migrations.folder { ["e.lua"] = code }
            local result = scripts.run("verify", { "--only", "configuration", "--expect", dir .. "/e.lua",
                status == 1 and "--only=own" or nil }, { DATABASE_URL = url })
            assert.equal(status, result.code, result.text)
            assert.matches("called os.exit", result.stdout, 1, true)
        end
    end)

    it("can refuse the run before it, and are a separate failure after it", function()
        local result = verify { ["h/beforeVerify.lua"] = "return false, 'not now'" }
        assert.equal(1, result.code)
        assert.matches("h/beforeVerify.lua stopped the run: not now.*nothing was checked", result.stderr)
        assert.equal("", result.stdout)
        for _, format in ipairs { "text", "json", "junit", "tap" } do
            result = verify({ ["h/afterVerify.sql"] = "select nonsense" }, url, "--format", format)
            assert.equal(1, result.code)
            assert.matches("hooks.afterVerify", result.stdout, 1, true)
            assert.matches("h/afterVerify.sql:1: column", result.stdout, 1, true)
            assert.matches("postgres.async", result.stdout, 1, true)
        end
    end)
end)
