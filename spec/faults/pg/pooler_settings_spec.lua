--- Settings that a connection requests (--read-only, --statement-timeout, --lock-timeout, `options` in the URL) hold,
--- or the connection is refused: a pooler can drop them silently.

local asked = require "dbrun.db.asked"
local core = require "dbrun.core"
local errors = require "dbrun.error"
local pg = require "spec.support.pg"
local pgbouncer = require "spec.support.pgbouncer"
local process = require "dbrun.process"
local servers = require "spec.support.servers"

local raised = pg.raised

describe("the settings in options", function()
    it("are read as the server reads them", function()
        local function read(text)
            local list = {}
            for i, setting in ipairs(asked.settings(text)) do list[i] = setting.name .. "=" .. setting.value end
            return table.concat(list, "|")
        end
        assert.equal("", read "")
        assert.equal("a=1", read "-c a=1")
        assert.equal("a=1|b.c=x y|d_e=", read [[ -ca=1   --b.c=x\ y --d-e= ]])
        assert.equal("a=2|b=1", read "-c A=1 -c b=1 -c a=2")
        assert.equal([[s='\]], read [[-c s='\\]])
        assert.equal("a=b=c", read "-d 1 -c a=b=c -c")
    end)
end)

pg.on_both(describe, function(mode, open)
    local server

    setup(function() server = servers.postgres() end)

    teardown(function() server:close() end)

    local function with_options(url, options)
        local escaped = options:gsub("[^%w]", function(c) return ("%%%02X"):format(c:byte()) end)
        return url .. (url:find("?", 1, true) and "&" or "?") .. "options=" .. escaped
    end

    --- A separate program with these switches, on this engine.
    local function run(url, switches, source)
        local argv = { core.options.program, "--no-env" }
        table.move(switches, 1, #switches, #argv + 1, argv)
        argv[#argv + 1], argv[#argv + 2] = "-e", ([[
            local db = require "dbrun.db"
            local e = db.%s
            %s]]):format(mode, source)
        argv.env, argv.timeout = { DATABASE_URL = url }, 60
        return process.run(argv)
    end

    describe("without a pooler", function()
        it("hold, however they are written", function()
            local e <close> = open { url = with_options(server.url, [[-c statement_timeout=90000 --lock-timeout=1min ]]
                .. [[-c default_transaction_isolation=REPEATABLE\ read -cmy.own='\\ -c search_path=a,\ "B" ]]
                .. [[-c DateStyle=german -c work_mem=64MB -c default_transaction_read_only=1 ]]
                .. [[-c statement_timeout=2min -c jit=off -c log_connections=on]]) }
            assert.equal("2min", e:value "show statement_timeout")
            assert.equal("1min", e:value "show lock_timeout")
            assert.equal("on", e:value "show default_transaction_read_only")
            assert.equal([['\]], e:value "show my.own")
            assert.equal("public", (e:value "select set_config('search_path', 'public', false)"))
        end)

        it("of a role without the right to set them are trusted when the server accepted them", function()
            server:psql "create role plain login; grant set on parameter log_min_messages to plain"
            local e <close> = open { url = with_options(server.url:gsub("//[^@]*@", "//plain@"),
                "-c post_auth_delay=0 -c statement_timeout=77000") }
            assert.equal("77s", e:value "show statement_timeout")
        end)

        it("that the server refuses are the server's error", function()
            local e <close> = open { url = with_options(server.url, "-c work_mem=lots") }
            assert.equal("22023", raised(e.value, e, "select 1").sqlstate)
        end)
    end)

    if not pgbouncer.is_there() then
        pending("pgbouncer is not installed: its specs are skipped")
        return
    end

    for _, pool_mode in ipairs { "transaction", "session" } do
        describe(("behind a PgBouncer in %s mode that ignores options"):format(pool_mode), function()
            local bouncer

            setup(function()
                bouncer = pgbouncer.start(server, { pool_mode = pool_mode, ignore_startup_parameters = "options" })
            end)

            teardown(function() getmetatable(bouncer).__close(bouncer) end)

            it("nothing is written with --read-only", function()
                server:psql "create table if not exists written (i int)"
                local result = run(bouncer.url, { "--read-only" }, [[
                    local errors = require "dbrun.error"
                    for i = 1, 20 do
                        local ok, e = pcall(e.query, e, "insert into written values ($1)", i)
                        assert(not ok and errors.is(e, "config"), tostring(e))
                        assert(e.outcome == "not_sent" and not e.retryable)
                        assert(e.message:find "pooler" and e.message:find "default_transaction_read_only = on")
                        assert(e.hint:find "ignore_startup_parameters")
                    end
                    for _, run in ipairs {
                        function() e:transaction(function(tx) tx:exec "insert into written values (0)" end) end,
                        function() e:copy_in("written", nil, { { 0 } }) end,
                        function() e:pipeline(function(p) p:query "insert into written values (0)" end) end,
                        function() local s <close> = e:session() s:exec "insert into written values (0)" end,
                        function() e:listen "x" end,
                    } do
                        assert(not pcall(run))
                    end]])
                assert.equal(0, result.code, result.stderr)
                assert.equal("0", server:psql "select count(*) from written")
            end)

            it("time limits and other settings are refused by name", function()
                for _, case in ipairs {
                    { "statement_timeout = 3s", { "--statement-timeout", "3" } },
                    { "lock_timeout = 1500ms", { "--lock-timeout", "1.5" } },
                } do
                    local result = run(bouncer.url, case[2], 'print(select(2, pcall(e.value, e, "select 1")).message)')
                    assert.matches(case[1], result.stdout, 1, true)
                end
                for _, options in ipairs { "-c search_path=elsewhere", "-c default_transaction_isolation=serializable",
                    "-c my.tenant=7", "-c log_disconnections=on" } do
                    local e <close> = open { url = with_options(bouncer.url, options) }
                    local ok, problem = pcall(e.value, e, "select 1")
                    assert.is_false(ok, options)
                    assert.is_true(errors.is(problem, "config"), tostring(problem))
                    assert.matches(options:match "-c ([^=]+)", problem.message, 1, true)
                end
            end)

            it("settings that hold on the server anyway are accepted", function()
                server:psql "alter role dbrun set statement_timeout = '33s'"
                local again <close> = pgbouncer.start(server,
                    { pool_mode = pool_mode, ignore_startup_parameters = "options" })
                local e <close> = open { url = with_options(again.url, "-c statement_timeout=33000 -c jit=on") }
                assert.equal("33s", e:value "show statement_timeout")
                server:psql "alter role dbrun reset statement_timeout"
            end)

            it("a program that requests no settings is served", function()
                local e <close> = open { url = bouncer.url }
                assert.equal(1, e:value "select 1")
            end)
        end)
    end
end)
