-- scripts/seed.lua on a real server.
local fs = require "dbrun.fs"
local scripts = require "spec.support.scripts"
local servers = require "spec.support.servers"

describe("dbrun seed", function()
    local url, database, folders

    before_each(function()
        url, database = servers.database()
        folders = {}
    end)
    after_each(function()
        for _, folder in ipairs(folders) do fs.rmtree(folder) end
    end)

    local function folder(files)
        folders[#folders + 1] = scripts.folder(files)
        return folders[#folders]
    end

    local function seed(args, env)
        local full = { DATABASE_URL = url }
        for key, value in pairs(env or {}) do full[key] = value end
        return scripts.run("seed", args, full)
    end

    local function sql(text)
        return servers.shared_postgres():psql(text, database)
    end

    local function insert(n)
        return ("return function(ctx) ctx.db:exec 'insert into t values (%d)' return 1 end\n"):format(n)
    end

    local function rows() return sql "select coalesce(string_agg(n::text, ' ' order by n), '') from t" end

    it("fills the sample schema with 100,000 observations, and a second run adds none", function()
        assert.equal(0, scripts.run("migrate", { "up" }, { DATABASE_URL = url }).code)
        local first = seed {}
        assert.equal(0, first.code, first.text)
        assert.matches("^Target: [^\n]*" .. database, first.stdout)
        assert.matches("seeded  020_observations  100,000 rows", first.stdout)
        local sum = "select count(*) || ' ' || sum(value::numeric)::text || ' ' || max(observed_at) from observations"
        local data = sql(sum)
        assert.matches("^100000 ", data)
        assert.equal("10 20", sql "select (select count(*) from sources) || ' ' || (select count(*) from series)")
        local second = seed {}
        assert.equal(0, second.code, second.text)
        assert.equal(data, sql(sum))
        sql "delete from observations where value > 30"
        assert.matches("unchanged  020_observations", second.stdout)
        assert.equal(0, seed({ "--force" }).code)
        assert.equal(data, sql(sum))
        assert.matches("100,000 rows", seed({ "--force", "--only", "observations" }).stdout)
        assert.equal(data, sql(sum))
    end)

    describe("with a project's seeds", function()
        before_each(function() sql "create table t (n int)" end)

        it("runs them in the order of their names", function()
            local dir = folder {
                ["020_b.lua"] = "return function(ctx) ctx.db:exec 'update t set n = n * 10' end",
                ["010_a.lua"] = insert(1),
            }
            local result = seed { "--dir", dir }
            assert.equal(0, result.code, result.text)
            assert.matches("seeded  010_a  1 row .*seeded  020_b", result.stdout)
            assert.equal("10", rows())
        end)

        it("runs those of an environment after the others, and single ones by name", function()
            local dir = folder { ["010_a.lua"] = insert(1), ["020_b.lua"] = insert(2), ["test/005_c.lua"] = insert(3) }
            assert.equal(0, seed({ "--dir", dir, "--env", "test", "--only", "b,c" }).code)
            assert.equal("2 3", rows())
            assert.equal(0, seed({ "--dir", dir }).code)
            assert.equal("1 2 3", rows())
            local result = seed { "--dir", dir, "--only", "nope" }
            assert.equal(2, result.code)
            assert.matches("no seed is called 'nope'; there are 010_a, 020_b", result.stderr)
        end)

        it("rolls a failed one back, and keeps the seeds before it", function()
            local dir = folder {
                ["010_a.lua"] = insert(1),
                ["020_b.lua"] = "return function(ctx)\n  ctx.db:exec 'insert into t values (2)'\n"
                    .. "  ctx.db:exec 'insert into nowhere values (1)'\nend",
                ["030_c.lua"] = insert(3),
            }
            local result = seed { "--dir", dir }
            assert.equal(1, result.code, result.text)
            assert.equal("1", rows())
            assert.matches("020_b.lua failed: ", result.stderr)
            assert.matches('relation "nowhere" does not exist (SQLSTATE 42P01)', result.stderr, 1, true)
            assert.matches("Nothing that it wrote through ctx.db was kept; what ran before it stays.", result.stderr, 1,
                true)
        end)

        it("shows the line of a mistake in a seed", function()
            local dir = folder { ["010_a.lua"] = "return function(ctx)\n  ctx.nothing.here()\nend" }
            local result = seed { "--dir", dir }
            assert.equal(1, result.code)
            assert.matches("010_a.lua:2: attempt to index a nil value", result.stderr)
        end)

        it("reads every seed before it runs the first", function()
            local dir = folder { ["010_a.lua"] = insert(1), ["020_b.lua"] = "return function(" }
            local result = seed { "--dir", dir }
            assert.equal(1, result.code)
            assert.matches("020_b.lua is not a seed: ", result.stderr)
            assert.equal("", rows())
        end)

        it("--dry-run lets each see the changes of those before it, and keeps none", function()
            local dir = folder {
                ["010_a.lua"] = insert(1),
                ["020_b.lua"] = "return function(ctx) return 'sees ' .. ctx.db:value 'select count(*) from t' end",
            }
            local result = seed { "--dir", dir, "--dry-run" }
            assert.equal(0, result.code, result.text)
            assert.matches("sees 1 ", result.stdout)
            assert.matches("2 seeds ran; nothing written through ctx.db was kept", result.stdout)
            assert.equal("", rows())
        end)

        it("--dry-run refuses Redis, which cannot roll back", function()
            local dir = folder { ["010_a.lua"] = "return function(ctx) ctx.redis:set('x', 1) end" }
            local redis = servers.redis_db()
            local result = seed({ "--dir", dir, "--dry-run" }, { REDIS_URL = redis })
            assert.equal(1, result.code)
            assert.matches("a dry run cannot use Redis", result.stderr)
        end)

        it("gives a seed its database, Redis, configuration, random numbers, and the command's options", function()
            local dir = folder { ["010_a.lua"] = [[
return function(ctx)
    ctx.redis:set("seeded", ctx.config.DB_POOL_SIZE)
    local p <close> = ctx.progress("things", 3, "rows")
    ctx.db:copy_in("t", { "n" }, { { 1 }, { 2 }, { 3 } })
    p:add(3)
    return ("%s %s %s %s"):format(ctx.name, ctx.env, ctx.force, ctx.random(1000000))
end
]], ["prod/x.lua"] = "return function() end" }
            local redis, number = servers.redis_db()
            local env = { REDIS_URL = redis, DB_POOL_SIZE = "7" }
            local first = seed({ "--dir", dir, "--env", "prod", "--force" }, env)
            local second = seed({ "--dir", dir, "--only", "a" }, env)
            assert.matches("unchanged  010_a", second.stdout)
            sql "delete from dbrun_seeds"
            second = seed({ "--dir", dir }, env)
            assert.equal(0, first.code, first.text)
            local drawn = first.stdout:match "010_a prod true (%d+)"
            assert.is_string(drawn, first.stdout)
            assert.matches("010_a nil false " .. drawn, second.stdout)
            assert.equal("7", servers.shared_redis():cli("-n", number, "get", "seeded"))
            assert.equal("1 1 2 2 3 3", rows())
            assert.matches("things: 100 %%  3/3 rows", first.stderr)
        end)

        it("runs a seed once, and again when it has changed or with --force", function()
            local two = "-- two more\ninsert into t values (2), (3);"
            local dir = folder { ["010_a.lua"] = insert(1), ["020_b.sql"] = two }
            assert.matches("seeded  020_b  2 rows", seed({ "--dir", dir }).stdout)
            local second = seed { "--dir", dir }
            assert.matches("unchanged  010_a\nunchanged  020_b\n", second.stdout)
            assert.equal("1 2 3", rows())
            fs.write(dir .. "/010_a.lua", insert(5))
            local third = seed { "--dir", dir }
            assert.matches("seeded  010_a .*unchanged  020_b", third.stdout)
            assert.equal("1 2 3 5", rows())
            assert.equal(0, seed({ "--dir", dir, "--force", "--only", "b" }).code)
            assert.equal("1 2 2 3 3 5", rows())
            assert.equal("2", sql "select count(*) from dbrun_seeds where result is not null and length(checksum) = 64")
        end)

        it("runs one with `always` every time", function()
            local dir = folder { ["a.lua"] = [[return { always = true, run = function(ctx)
                ctx.db:exec "insert into t values (1)" end }]] }
            for _ = 1, 2 do assert.equal(0, seed({ "--dir", dir }).code) end
            assert.equal("1 1", rows())
        end)

        it("does not record a failed seed, or a dry run", function()
            local dir = folder { ["a.lua"] = "return function(ctx)\n"
                .. "ctx.db:exec 'insert into t values (1)' error 'x' end" }
            assert.equal(1, seed({ "--dir", dir }).code)
            fs.write(dir .. "/a.lua", insert(1))
            assert.matches("seeded  a", seed({ "--dir", dir, "--dry-run" }).stdout)
            assert.equal("", sql "select to_regclass('dbrun_seeds')")
            assert.matches("seeded  a", seed({ "--dir", dir }).stdout)
            assert.matches("unchanged  a", seed({ "--dir", dir, "--dry-run" }).stdout)
            assert.equal("1", rows())
        end)

        it("runs seeds after their declared dependencies", function()
            local dir = folder {
                ["010_a.lua"] = [[return { after = { "b" }, run = function(ctx)
                    ctx.db:exec "insert into t select max(n) * 10 from t" end }]],
                ["020_b.lua"] = insert(4),
            }
            local result = seed { "--dir", dir, "--only", "a" }
            assert.equal(0, result.code, result.text)
            assert.equal("4 40", rows())
        end)

        it("runs each once when several runs start at the same time", function()
            local dir = folder { ["a.lua"] = "return function(ctx) ctx.db:query 'select pg_sleep(0.2)' "
                .. "ctx.db:exec 'insert into t values (1)' end" }
            local runs = {}
            for i = 1, 4 do runs[i] = scripts.start("seed", { "--dir", dir }, { DATABASE_URL = url }) end
            local seeded = 0
            for i = 1, 4 do
                local result = runs[i].finish()
                assert.equal(0, result.code, result.text)
                if result.stdout:find "seeded" then seeded = seeded + 1 end
            end
            assert.equal(1, seeded)
            assert.equal("1", rows())
        end)

        it("refuses a protected target unless --target names it", function()
            local dir = folder { ["a.lua"] = insert(1) }
            local protected = { DBRUN_PROTECTED = "other, spec_*" }
            local refused = seed({ "--dir", dir }, protected)
            assert.equal(2, refused.code, refused.text)
            assert.matches("protected", refused.stderr)
            assert.equal("", rows())
            assert.equal(2, seed({ "--dir", dir, "--target", "another" }).code)
            assert.equal("", rows())
            assert.equal(0, seed({ "--dir", dir, "--target", database }, protected).code)
            assert.equal("1", rows())
        end)

        it("--list shows the seeds and runs none", function()
            local dir = folder { ["010_a.lua"] = "return { description = 'makes an a', run = function() end }" }
            local nowhere = "postgresql://nobody@/nowhere?host=/nowhere"
            local result = seed({ "--dir", dir, "--list" }, { DATABASE_URL = nowhere })
            assert.equal(0, result.code, result.text)
            assert.equal("010_a  makes an a\n", result.stdout)
        end)
    end)

    it("with wrong usage or configuration exits with 2 and one line", function()
        for _, args in ipairs { { "--foo" }, { "x" }, { "--dir", "/nowhere" }, { "--dir", folder {} } } do
            local result = seed(args)
            assert.equal(2, result.code, result.text)
            assert.matches("^seed: [^\n]+\n", result.stderr)
        end
        assert.equal(0, seed({ "--help" }).code)
    end)

    it("shows where the code of a seed failed, and nothing else", function()
        local result = seed({ "--dir", folder { ["010_a.lua"] = "local function deep(x)\n    return x.y + 1\nend\n"
            .. "return function() return 1 + deep(nil) end" } })
        assert.equal(1, result.code, result.text)
        assert.matches("010_a.lua failed: [^\n]*010_a.lua:2: attempt to index a nil value [^\n]*\n  stack traceback:\n"
            .. "  \t[^\n]*010_a.lua:2: in [^\n]*deep'\n  \t[^\n]*010_a.lua:4: in function [^\n]*\n  Nothing that",
            result.stderr)
    end)

    it("without a server fails with the cause and no password", function()
        local result = seed({}, { DATABASE_URL = "postgresql://joe:hunter22@127.0.0.1:1/x" })
        assert.equal(1, result.code)
        assert.matches("127.0.0.1:1: Connection refused", result.stderr, 1, true)
        assert.not_matches("hunter22", result.text)
        assert.not_matches("traceback", result.text)
    end)
end)
