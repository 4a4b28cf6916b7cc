-- The connection is lost while the server's answer to a COMMIT is waited for: seeds and migrations do not say that
-- nothing was kept, and the next run finds what was. The server has committed, and waits for a standby that is nowhere.
local db = require "dbrun.db"
local fs = require "dbrun.fs"
local scripts = require "spec.support.scripts"
local servers = require "spec.support.servers"
local task = require "dbrun.task"

local WAITS <const> = "select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'"

describe("a COMMIT without an answer", function()
    local server, engine, folder

    setup(function()
        server = servers.postgres {
            settings = { synchronous_standby_names = "nobody", synchronous_commit = "local" },
        }
        engine = db.engine { url = server.url, size = 1 }
        engine:exec "create table t (n int)"
    end)
    teardown(function()
        engine:close()
        server:close()
    end)
    before_each(function()
        folder = scripts.folder {}
        engine:exec "truncate t"
    end)
    after_each(function() fs.rmtree(folder) end)

    local function run(command, args)
        return scripts.run(command, args, { DATABASE_URL = server.url })
    end

    ---Runs the command, and ends its session when it waits in a COMMIT.
    local function cut(command, args)
        local url <const> = server.url .. (server.url:find("?", 1, true) and "&" or "?")
            .. "options=-csynchronous_commit%3Don"
        local running <const> = scripts.start(command, args, { DATABASE_URL = url })
        local give_up <const> = task.now() + 20
        while #engine:query(WAITS) == 0 do
            assert.is_true(task.now() < give_up, "it never came to its COMMIT")
            task.sleep(0.02)
        end
        local result <const> = running.finish()
        assert.equal(1, result.code, result.text)
        return result.stderr
    end

    local function rows() return engine:value "select coalesce(string_agg(n::text, ' ' order by n), '') from t" end

    it("of a seed", function()
        local args <const> = { "--dir", folder }
        for i, file in ipairs { "1_a.sql", "2_b.lua" } do
            local sql <const> = ("insert into t values (%d)"):format(i)
            fs.write(folder .. "/" .. file, i == 1 and sql or ("return function(ctx) ctx.db:exec '%s' end"):format(sql))
            local said <const> = cut("seed", args)
            assert.matches("lost at COMMIT: whether it was kept is not known", said, 1, true)
            assert.is_nil(said:find "Nothing", said)
            assert.matches("unchanged  " .. file:match "^[^.]*", run("seed", args).stdout, 1, true)
        end
        assert.equal("1 2", rows())
    end)

    it("of SQL on the command line, and of a hook", function()
        local said = cut("sql", { "-1", "insert into t values (1)" })
        assert.matches("was lost: .*\n  outcome: unknown: the work may have been done; check before", said)
        local hooks <const> = folder .. "/hooks"
        fs.mkdir_p(hooks)
        fs.write(hooks .. "/beforeSeed.sql", "insert into t values (2)")
        fs.write(folder .. "/1_c.sql", "insert into t values (3)")
        said = cut("seed", { "--dir", folder, "--hooks", hooks })
        assert.matches("no seed was run. Whether its own changes were kept is not known.", said, 1, true)
        assert.equal("1 2", rows())
    end)

    it("of a migration with transaction:false", function()
        local args <const> = { "up", "--dir", folder }
        fs.write(folder .. "/1_a.sql", "-- migrate:up\ntruncate t;\n-- migrate:down\n")
        assert.equal(0, run("migrate", args).code) -- makes the tables of versions
        fs.write(folder .. "/2_b.sql", "-- migrate:up transaction:false\ninsert into t values (1);\n"
            .. "insert into t values (2);\n-- migrate:down\n")
        local said <const> = cut("migrate", args)
        assert.matches("2_b.sql:2: the connection to the server was lost", said, 1, true)
        assert.matches("Whether it took effect is not known: 'migrate status' shows it.", said, 1, true)
        assert.matches("1 of its statements took effect", run("migrate", { "status", "--dir", folder }).stdout, 1, true)
        assert.matches("1 of its 2 statements took effect (lines 2 to 2) and stay; whether this one did is not known",
            cut("migrate", args), 1, true)
        assert.equal(0, run("migrate", args).code)
        assert.equal("1 2", rows())
    end)
end)
