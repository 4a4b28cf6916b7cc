-- The chapter "Writing a maintenance script": its scripts are written to a project and run by the commands that follow
-- them, in the chapter's order; their output must be that of the chapter.
local core = require "dbrun.core"
local db = require "dbrun.db"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local readme = require "spec.support.readme"
local redis = require "dbrun.redis"
local servers = require "spec.support.servers"

--- {name = "purge", code =, commands =, output =}, in order; and the other files.
local function chapter(text)
    local scripts, files, last = {}, {}, nil
    for language, code in text:gmatch "\n```(%a+)\n(.-)\n?```" do
        local path = code:match "^%-%- (scripts/%S+)\n"
        if path then files[path] = code .. "\n" end
        if path and language == "lua" then
            last = { name = path:match "([%w_]+)%.lua$" }
            scripts[#scripts + 1] = last
        elseif language == "sh" and last and not last.commands then
            last.commands = code
        elseif language == "text" and last and last.commands and not last.output then
            last.output = code
        end
    end
    return scripts, files
end

describe("the scripts of the chapter on maintenance", function()
    local scripts <const>, files <const> = chapter(fs.read "lua/manual/maintenance.md")
    local dir, env

    local function run(argv)
        argv.cwd, argv.env, argv.stderr, argv.timeout = dir, env, "stdout", 60
        return process.run(argv)
    end

    setup(function()
        dir = fs.mkdtemp()
        fs.mkdir_p(dir .. "/scripts/migrations")
        fs.symlink(core.options.program, dir .. "/dbrun")
        for path, code in pairs(files) do fs.write(dir .. "/" .. path, code) end
        env = { DATABASE_URL = (servers.database()), REDIS_URL = (servers.redis_db()), DBRUN_LOG = false,
            PATH = dir .. ":" .. os.getenv "PATH", MIGRATION_DATABASE_URL = false, ARCHIVE_DATABASE_URL = false }
        local up = run { core.options.program, fs.realpath "scripts" .. "/migrate.lua", "up" }
        assert(up.ok, up.stdout)
    end)
    teardown(function() fs.rmtree(dir) end)

    it("are ten", function()
        assert.equal(10, #scripts)
    end)

    for _, script in ipairs(scripts) do
        it("print the chapter's output: " .. script.name, function()
            local result = run { "sh", "-e", "-c", script.commands }
            if not readme.fits(result.stdout, script.output) then assert.equal(script.output, result.stdout) end
            assert.equal(0, result.code, result.stdout)
        end)

        it("have a help, and are short: " .. script.name, function()
            local help = run { core.options.program, script.name, "--help" }
            assert.equal(0, help.code, help.stdout)
            assert.matches("^usage: dbrun " .. script.name, help.stdout)
            assert.is_true(select(2, files["scripts/" .. script.name .. ".lua"]:gsub("\n", "")) < 45)
        end)
    end

    it("fill the right rows, in batches that continue", function()
        local engine = db.engine { url = env.DATABASE_URL }
        assert.same({ eu = 1300, us = 1300 }, { [engine:value "select min(region) from customers"] =
            engine:value "select count(*) from customers where region = 'eu'",
            [engine:value "select max(region) from customers"] =
            engine:value "select count(*) from customers where region = 'us'" })
        assert.equal(20, engine:value "select count(done_at) from jobs")
        assert.equal("7.00", engine:value "select price from prices where sku = 'A,3'")
        engine:close()
    end)

    it("publish notifications", function()
        local engine, client = db.engine { url = env.DATABASE_URL }, redis.client { url = env.REDIS_URL }
        local subscription <close> = client:subscribe "orders"
        local bridge <close> = process.start { core.options.program, "bridge", "orders", "--count", "1", cwd = dir,
            env = env }
        repeat until engine:value [[select count(*) from pg_stat_activity where query ilike 'listen%'
            and datname = current_database()]] > 0
        engine:query "select pg_notify('orders', 'é 5')"
        local messages, state = subscription:messages()
        assert.equal("é 5", messages(state).payload)
        assert.equal(0, bridge:wait(30).code)
        client:close()
        engine:close()
    end)

    it("end sessions that are idle in a transaction", function()
        local engine = db.engine { url = env.DATABASE_URL }
        local conn = engine:acquire()
        conn:exec "begin"
        local result = run { core.options.program, "idle", "--age", "0", "--yes" }
        assert.matches("1 sessions ended\n$", result.stdout)
        assert.is_false(pcall(conn.exec, conn, "select 1"))
        conn:release()
        engine:close()
    end)
end)
