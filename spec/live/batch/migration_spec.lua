-- Batch jobs from Lua migrations: run to their end, started for other processes, required to be done.
local migrations = require "spec.support.migrations"
local scripts = require "spec.support.scripts"

local MAKE <const> = "-- migrate:up\ncreate table t (id int primary key, n int not null default 0);\n"
    .. "insert into t select i from generate_series(1, 2000) i;\n-- migrate:down\ndrop table t;\n"

local FILL <const> = [[
return { %s up = function(ctx)
    ctx.batch { name = "fill", table = "t", size = 500, %s run = "update t set n = n + 1 where :chunk" }
end, down = function() end }]]

local NEEDS <const> = [[return { up = function(ctx) ctx.batch_done "fill" end, down = function() end }]]

describe("a migration", function()
    local url, sql
    migrations.around(_ENV, function(address, _, ask) url, sql = address, ask end)

    local function up(files)
        local dir <const> = migrations.folder(files)
        return scripts.run("migrate", { "up", "--dir", dir }, { DATABASE_URL = url })
    end

    it("runs a job to its end, once", function()
        local result <const> = up { ["1_t.sql"] = MAKE, ["2_fill.lua"] = FILL:format("transaction = false,", ""),
            ["3_needs.lua"] = NEEDS }
        assert.equal(0, result.code, result.text)
        assert.equal("2000|1|1", sql "select count(*), min(n), max(n) from t")
        assert.equal("done", sql "select state from dbrun_batch_jobs")
        assert.equal("3", sql "select count(*) from schema_migrations")
    end)

    it("cannot do so in a transaction", function()
        local result <const> = up { ["1_t.sql"] = MAKE, ["2_fill.lua"] = FILL:format("", "") }
        assert.equal(1, result.code)
        assert.matches("a batch job commits each of its chunks, and this migration is one transaction", result.stderr)
        assert.matches("transaction = false", result.stderr, 1, true)
        assert.equal("1", sql "select count(*) from schema_migrations")
    end)

    it("starts a job for others, and a later one waits for it", function()
        local result <const> = up { ["1_t.sql"] = MAKE, ["3_needs.lua"] = NEEDS,
            ["2_fill.lua"] = FILL:format("transaction = false,", "wait = false,") }
        assert.equal(1, result.code)
        assert.matches("needs the batch job 'fill' to be done; it is running", result.stderr)
        assert.matches("dbrun batch wait fill", result.stderr, 1, true)
        assert.equal("running", sql "select state from dbrun_batch_jobs")
        assert.equal("2", sql "select count(*) from schema_migrations")
        assert.equal("0", sql "select max(n) from t")
    end)

    it("fails when rows of the job failed, and is not applied", function()
        local result <const> = up { ["1_t.sql"] = MAKE, ["2_fill.lua"] = [[
return { transaction = false, up = function(ctx)
    ctx.batch { name = "fill", table = "t", size = 500, on_error = "split",
        run = "update t set n = n + 1 + 0 / (id - 700) where :chunk" }
end, down = function() end }]] }
        assert.equal(1, result.code)
        assert.matches("the batch job 'fill' is done but for 1 failed range", result.stderr)
        assert.matches("dbrun batch errors fill", result.stderr, 1, true)
        assert.equal("1", sql "select count(*) from schema_migrations")
        assert.equal("1", sql "select count(*) from t where n = 0")
    end)
end)
