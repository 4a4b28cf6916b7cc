-- verify through a pooler, when the pool is smaller than the number of connections that verify holds.
local pgbouncer = require "spec.support.pgbouncer"
local fs = require "dbrun.fs"
local scripts = require "spec.support.scripts"
local servers = require "spec.support.servers"

describe("dbrun verify behind PgBouncer", function()
    if not pgbouncer.is_there() then return pending "pgbouncer is not installed" end
    local root

    before_each(function() root = fs.mkdtemp() end)
    after_each(function() fs.rmtree(root) end)

    local function verify(pool, expected)
        fs.write(root .. "/e.lua", expected and ("return { { pooler = %s } }"):format(expected) or "return {}")
        return scripts.run("verify", { "--only", "postgres.concurrency,postgres.sync,postgres.server,postgres.pooler",
            "--expect", root .. "/e.lua", "--deadline", "12" }, { DATABASE_URL = pool.url })
    end

    local function status(result, name)
        return result.stdout:match("(%u%u%u%u)  " .. name:gsub("%.", "%%.") .. " ")
    end

    it("in transaction mode lets connections share a backend, when that is expected", function()
        local pool <close> = pgbouncer.start(servers.shared_postgres(), { default_pool_size = 1 })
        local result = verify(pool, "'transaction'")
        assert.equal(0, result.code, result.text)
        assert.matches("PASS  postgres.concurrency .*through the expected pooler", result.stdout)
        result = verify(pool)
        assert.equal("FAIL", status(result, "postgres.concurrency"), result.text)
        assert.matches("expect it: { pooler = 'transaction' }", result.stdout, 1, true)
    end)

    it("in session mode says that the pool is too small, and runs the other checks", function()
        local pool <close> = pgbouncer.start(servers.shared_postgres(),
            { pool_mode = "session", default_pool_size = 1 })
        local result = verify(pool, "'session'")
        assert.equal(1, result.code, result.text)
        assert.equal("FAIL", status(result, "postgres.concurrency"), result.text)
        assert.matches("raise default_pool_size", result.stdout, 1, true)
        assert.equal("SKIP", status(result, "postgres.sync"))
        assert.equal("PASS", status(result, "postgres.server"))
        assert.equal("PASS", status(result, "postgres.pooler"))
        assert.matches("1 failed, 1 blocked", result.stdout, 1, true)
    end)
end)
