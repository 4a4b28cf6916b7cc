--- The contents of an error: kind, SQLSTATE, hint, the place in the SQL and in the script, the outcome.

local db = require "dbrun.db"
local errors = require "dbrun.error"
local pace = require "spec.support.pace"
local pg = require "spec.support.pg"
local servers = require "spec.support.servers"
local task = require "dbrun.task"

local raised = pg.raised

--- The text under the caret of an error's picture.
local function under_caret(problem)
    local line, caret = tostring(problem):match "(LINE %d+: [^\n]*)\n( *%^)"
    assert(line, tostring(problem))
    local at = utf8.offset(line, #caret)
    return line:sub(at)
end

pg.on_both(describe, function(mode, open)
    describe("an error of the server", function()
        it("has kind, SQLSTATE, message, severity and outcome", function()
            local e <close> = open()
            local problem = raised(e.query, e, "select * from nowhere")
            assert.is_true(errors.is(problem, "query"))
            assert.equal("42P01", problem.sqlstate)
            assert.equal("ERROR", problem.severity)
            assert.equal('relation "nowhere" does not exist', problem.message)
            assert.equal("failed", problem.outcome)
            assert.is_false(problem.retryable)
            assert.equal("select * from nowhere", problem.statement)
        end)

        it("with the SQLSTATE of a lost connection has the kind query while the session lives", function()
            local e <close> = open { size = 1 }
            local pid <const> = e:value "select pg_backend_pid()"
            for _, state in ipairs { "08006", "57P01", "57P03", "53300" } do
                local problem = raised(e.exec, e, ("do $$ begin raise 'no' using errcode = '%s'; end $$"):format(state))
                assert.same({ "query", state, "failed" }, { problem.kind, problem.sqlstate, problem.outcome })
                assert.is_nil(problem.hint)
            end
            assert.is_nil(raised(e.exec, e, "drop database no_such_database").hint)
            assert.equal(pid, e:value "select pg_backend_pid()")
        end)

        it("is the same unprepared, prepared and from exec", function()
            local e <close> = open()
            local c <close> = e:acquire()
            for n = 1, 4 do
                local problem = raised(c.query, c, "select 1 / $1::int", 0)
                assert.equal("22012", problem.sqlstate)
                assert.equal("division by zero", problem.message)
                assert.equal(1, c:value("select 1 / $1::int", 1), n)
            end
            assert.equal("22012", raised(c.exec, c, "select 1 / 0").sqlstate)
        end)

        it("of a constraint names table, column and constraint", function()
            local e <close> = open()
            local t = pg.table(e, "id int primary key, n int not null constraint positive check (n > 0)")
            e:exec(("insert into %s values (1, 1)"):format(t))
            local problem = raised(e.query, e, ("insert into %s values (1, 1)"):format(t))
            assert.is_true(errors.is(problem, "constraint"))
            assert.equal("23505", problem.sqlstate)
            assert.equal(t .. "_pkey", problem.constraint)
            assert.equal(t, problem.table)
            assert.equal("public", problem.schema)
            assert.matches("already exists", problem.detail)
            problem = raised(e.query, e, ("insert into %s values (2, null)"):format(t))
            assert.equal("23502", problem.sqlstate)
            assert.equal("n", problem.column)
            problem = raised(e.query, e, ("insert into %s values (2, -1)"):format(t))
            assert.equal("23514", problem.sqlstate)
            assert.equal("positive", problem.constraint)
        end)

        it("keeps the server's own hint, detail and context", function()
            local e <close> = open()
            local problem = raised(e.exec, e, [[do $$ begin
                raise exception 'the message' using detail = 'the detail', hint = 'the hint', errcode = 'ZZ123';
                end $$]])
            assert.equal("ZZ123", problem.sqlstate)
            assert.equal("the message", problem.message)
            assert.equal("the detail", problem.detail)
            assert.equal("the hint", problem.hint)
            assert.matches("PL/pgSQL function", problem.context)
            local text = tostring(problem)
            assert.matches("DETAIL:  the detail", text, 1, true)
            assert.matches("HINT:  the hint", text, 1, true)
            assert.matches("CONTEXT:  PL/pgSQL", text, 1, true)
        end)

        it("shows the place in the SQL with a caret", function()
            local e <close> = open()
            local problem = raised(e.query, e, "select 1,\n       nope,\n       3")
            assert.equal(18, problem.position)
            assert.matches("LINE 2:        nope,\n               ^", tostring(problem), 1, true)
            assert.equal("nope,", under_caret(problem))
        end)

        it("counts characters, not bytes, before the caret", function()
            local e <close> = open()
            for _, text in ipairs { "größe", "日本語", "🙂🙂", "e\u{301}" } do
                local problem = raised(e.query, e, ("select '%s' as \"%s\", nope"):format(text, text))
                assert.equal("nope", under_caret(problem))
                problem = raised(e.exec, e, ("select '%s';\n select '%s', nope"):format(text, text))
                assert.equal("nope", under_caret(problem))
            end
        end)

        it("cuts a long line around the place", function()
            local e <close> = open()
            for _, filler in ipairs { "a", "ä", "日" } do
                for _, n in ipairs { 10, 50, 60, 70, 80, 100, 1000 } do
                    local sql = ("select '%s', nope, '%s'"):format(filler:rep(n), filler:rep(200))
                    local problem = raised(e.query, e, sql)
                    assert.equal("nope", under_caret(problem):sub(1, 4))
                    local line = tostring(problem):match "LINE 1: ([^\n]*)"
                    assert(utf8.len(line) <= 80, utf8.len(line))
                end
            end
        end)

        it("at the very end of the SQL has its caret there", function()
            local e <close> = open()
            for _, sql in ipairs { "select (1", "select 'ä', (1", "select (1\n" } do
                local problem = raised(e.query, e, sql)
                assert.equal("42601", problem.sqlstate)
                assert.matches("\n *%^", tostring(problem))
            end
        end)

        it("in SQL of :name parameters points into the SQL that was sent", function()
            local e <close> = open()
            local problem = raised(e.query, e, "select :long_name::int, nope", { long_name = 1 })
            assert.equal("nope", under_caret(problem))
        end)

        it("names the script's line, through the library and coroutines", function()
            local e <close> = open()
            local function line()
                return debug.getinfo(2, "l").currentline
            end
            local problem = raised(function() e:query "select nope" end); local here = line()
            assert.equal("spec/live/pg/errors_spec.lua:" .. here, problem.where:gsub("^%./", ""))
            problem = raised(function() e:transaction(function(tx) tx:query "select nope" end) end); here = line()
            assert.equal("spec/live/pg/errors_spec.lua:" .. here, problem.where:gsub("^%./", ""))
            problem = raised(coroutine.wrap(function() e:query "select nope" end)); here = line()
            assert.equal("spec/live/pg/errors_spec.lua:" .. here, problem.where:gsub("^%./", ""))
            assert.equal(1, select(2, tostring(problem):gsub("pg/errors_spec", "")))
        end)

        it("has a hint where PostgreSQL gives none", function()
            local e <close> = open()
            local c <close> = e:acquire()
            c:exec "begin read only"
            local problem = raised(c.exec, c, "create table never (i int)")
            assert.equal("25006", problem.sqlstate)
            problem = raised(c.query, c, "select 1")
            assert.equal("25P02", problem.sqlstate)
            assert.matches("earlier statement", problem.hint)
            c:exec "rollback"
        end)

        it("in a transaction that is read-only names read_only, elsewhere the server or session", function()
            local e <close> = open { size = 1 }
            local write <const> = "create table never (i int)"
            local function of(tx, method) return raised(tx[method], tx, write) end
            local function pipeline(tx) return raised(tx.pipeline, tx, function(p) p:query(write) end) end
            local told <const> = {}
            for _, method in ipairs { "query", "exec" } do
                raised(e.transaction, e, { read_only = true }, function(tx) told[#told + 1] = of(tx, method) end)
            end
            raised(e.transaction, e, { read_only = true }, function(tx) told[#told + 1] = pipeline(tx) end)
            raised(e.transaction, e, function(tx)
                tx:transaction({ read_only = true }, function(inner) told[#told + 1] = of(inner, "query") end)
            end)
            raised(e.transaction, e, function(tx)
                tx:exec "set transaction read only"
                told[#told + 1] = of(tx, "query")
            end)
            assert.equal(5, #told)
            for i, problem in ipairs(told) do
                assert.equal("25006", problem.sqlstate, i)
                assert.matches("begun so (read_only = true, or READ ONLY in SQL)", problem.hint, 1, true, i)
            end
            local c <close> = e:acquire()
            c:exec "set default_transaction_read_only = on"
            assert.matches("This server or session is read-only", of(c, "query").hint, 1, true)
            raised(c.transaction, c, function(tx)
                assert.matches("This server or session is read-only", of(tx, "query").hint, 1, true)
            end)
        end)

        it("in the server's own statement timeout is of kind timeout", function()
            local e <close> = open()
            local c <close> = e:acquire()
            c:exec "set statement_timeout = 50"
            local problem = raised(c.query, c, "select pg_sleep(5)")
            assert.is_true(errors.is(problem, "timeout"))
            assert.equal("57014", problem.sqlstate)
            assert.equal("failed", problem.outcome)
        end)

        it("from a cancel request of another program has the kind cancelled", function()
            local e <close> = open { size = 2 }
            e:exec [[create or replace function cancel_me() returns void language plpgsql as
                $$ begin perform pg_cancel_backend(pg_backend_pid()); perform pg_sleep(5); end $$]]
            local problem = raised(e.query, e, "select cancel_me()")
            assert.is_true(errors.is(problem, "cancelled"))
            assert.equal("57014", problem.sqlstate)
        end)

        it("of a lock that was not available and of a deadlock is retryable", function()
            local e <close> = open { size = 2 }
            local t = pg.table(e, "i int")
            local a <close> = e:acquire()
            local b <close> = e:acquire()
            a:exec(("begin; lock table %s"):format(t))
            b:exec "begin"
            local problem = raised(b.exec, b, ("lock table %s nowait"):format(t))
            assert.equal("55P03", problem.sqlstate)
            assert.is_true(problem.retryable)
        end)
    end)

    describe("a failed statement with CONCURRENTLY", function()
        --- Runs it while another transaction uses the table.
        local function blocked(e, t, sql)
            local other <close> = e:acquire()
            other:exec(("begin; insert into %s values (1)"):format(t))
            local c <close> = e:acquire()
            c:exec "set lock_timeout = 50"
            local problem <const> = raised(c.query, c, sql)
            other:exec "rollback"
            return problem
        end

        it("has an unknown outcome, and the hint says what may be left", function()
            local e <close> = open { size = 2 }
            local t = pg.table(e, "i int")
            e:exec(("insert into %s values (1), (1)"):format(t))
            local create <const> = ('create unique index concurrently if not exists "%s i" on %s (i)'):format(t, t)
            for _, call in ipairs { e.query, e.exec } do
                local problem <const> = raised(call, e, create)
                assert.same({ "23505", "unknown", false },
                    { problem.sqlstate, problem.outcome, problem.retryable })
                assert.matches(('DROP INDEX CONCURRENTLY IF EXISTS "%s i"'):format(t), problem.hint, 1, true)
                assert.is_false(e:value("select indisvalid from pg_index where indrelid = to_regclass($1)", t))
                e:exec(('drop index concurrently if exists "%s i"'):format(t))
            end
            e:exec(("delete from %s; create index %s_i on %s (i)"):format(t, t, t))
            for _, case in ipairs {
                { "reindex table concurrently %s", "_ccnew or _ccold" },
                { "drop index concurrently %s_i", "Run this again" },
                { "create index concurrently on %s (i)", "\\d of the table shows it" },
            } do
                local problem <const> = blocked(e, t, case[1]:format(t))
                assert.same({ "55P03", "unknown", false }, { problem.sqlstate, problem.outcome, problem.retryable })
                assert.matches(case[2], problem.hint, 1, true)
            end
            e:exec(([[create table %s_p (i int) partition by list (i);
                create table %s_1 partition of %s_p for values in (1)]]):format(t, t, t))
            local problem <const> = blocked(e, t .. "_p",
                ("alter table %s_p detach partition %s_1 concurrently"):format(t, t))
            assert.same({ "55P03", "unknown" }, { problem.sqlstate, problem.outcome })
            assert.matches("FINALIZE", problem.hint, 1, true)
        end)

        it("that the server refused before it began is failed", function()
            local e <close> = open()
            local t = pg.table(e, "i int")
            e:exec(("create index %s_i on %s (i)"):format(t, t))
            local function outcome(...)
                local problem <const> = raised(...)
                assert.not_matches("CONCURRENTLY", problem.hint or "", 1, true)
                return problem.outcome
            end
            assert.equal("failed", outcome(e.query, e, "create index concurrently on nowhere (i)"))
            assert.equal("failed", outcome(e.query, e, ("create index concurrently %s_i on %s (i)"):format(t, t)))
            assert.equal("failed", outcome(e.query, e, "reindex table concurrently pg_class"))
            assert.equal("failed", outcome(e.transaction, e, function(tx)
                tx:query(("create index concurrently on %s (i)"):format(t))
            end))
        end)
    end)

    describe("command_timeout", function()
        it("ends a statement at its deadline, and the connection is used again", function()
            local e <close> = open { size = 1, command_timeout = 0.2 }
            for _, call in ipairs { "query", "value", "one", "exec" } do
                local problem = pace.takes(0.19, 0.3, function()
                    return raised(e[call], e, "select pg_sleep(5)")
                end, function() e:value "select 1" end)
                assert.is_true(errors.is(problem, "timeout"), tostring(problem))
                assert.equal("unknown", problem.outcome)
                assert.matches("0.2 s", problem.message, 1, true)
                assert.matches("more time (DB_STATEMENT_TIMEOUT, or command_timeout", problem.hint, 1, true)
                assert.equal("select pg_sleep(5)", problem.statement)
            end
            -- The sync engine gives a connection up when the cancel request takes longer than a tenth of that time.
            local patient <close> = open { size = 1, command_timeout = 2 }
            local kept, tries = false, 0
            while not kept and tries < 5 do
                tries = tries + 1
                local pid = patient:value "select pg_backend_pid()"
                raised(patient.query, patient, "select pg_sleep(30)")
                kept = pid == patient:value "select pg_backend_pid()"
            end
            assert.is_true(kept)
        end)

        it("in a transaction leaves nothing of it", function()
            local e <close> = open { command_timeout = 0.2 }
            local t = pg.table(e, "i int")
            local problem = raised(e.transaction, e, function(tx)
                tx:exec(("insert into %s values (1)"):format(t))
                tx:query "select pg_sleep(5)"
            end)
            assert.is_true(errors.is(problem, "timeout"))
            assert.equal(0, e:value(("select count(*) from %s"):format(t)))
        end)
    end)

    describe("a value that cannot be read", function()
        it("returns the connection to the pool", function()
            local e <close> = open { size = 1 }
            for _ = 1, 3 do
                local problem = raised(e.value, e, "select (repeat('[', 3000) || repeat(']', 3000))::json")
                assert.is_true(errors.is(problem))
                assert.equal(1, e:value "select 1")
            end
            assert.equal(1, e:stats().opened)
        end)
    end)

    it("huge time limits are no limits", function()
        for _, seconds in ipairs { 1e12, 1e300 } do
            local e <close> = open { connect_timeout = seconds, timeout = seconds, command_timeout = seconds }
            assert.equal(1, e:value "select 1")
        end
    end)

    describe("a connect that fails", function()
        local function problem_of(url, opts)
            opts = opts or {}
            opts.url = url
            opts.connect_timeout = opts.connect_timeout or 2
            local e <close> = open(opts)
            local problem = raised(e.value, e, "select 1")
            assert.equal("not_sent", problem.outcome)
            return problem
        end

        it("says that no server listens there", function()
            for _, url in ipairs { "postgresql://u@127.0.0.1:1/d", "postgresql:///d?host=/nonexistent" } do
                local problem = problem_of(url)
                assert.is_true(errors.is(problem, "connect"), tostring(problem))
                assert.equal("network", problem.layer)
                assert.is_string(problem.hint)
                assert.is_true(problem.retryable)
            end
        end)

        it("says that the name does not resolve", function()
            local problem = problem_of "postgresql://u@no-such-host.invalid/d"
            assert.is_true(errors.is(problem, "connect"), tostring(problem))
            assert.equal("name", problem.layer)
            assert.matches("no%-such%-host%.invalid", problem.message)
        end)

        it("says that the database is missing, the user unknown, the password wrong, without showing it", function()
            local server <close> = servers.postgres { hba = "local all dbrun trust\nlocal all all scram-sha-256" }
            server:psql "create role alice login password 'right'"
            local problem = problem_of(server:address { database = "missing" })
            assert.equal("3D000", problem.sqlstate)
            assert.equal("database", problem.layer)
            for _, user in ipairs { "alice", "nobody" } do
                problem = problem_of(server:address { user = user, password = "s3cr3t%wr0ng" })
                assert.equal("28P01", problem.sqlstate)
                assert.equal("authentication", problem.layer)
                assert.is_false(problem.retryable)
                local all = tostring(problem)
                for _, v in pairs(problem) do
                    all = all .. tostring(v)
                end
                assert.is_nil(all:find("s3cr3t", 1, true))
            end
            problem = problem_of(server:address { user = "alice" })
            assert.is_true(errors.is(problem, "connect"))
            assert.equal("authentication", problem.layer)
        end)

        it("accepts passwords of any characters", function()
            local server <close> = servers.postgres { hba = "local all dbrun trust\nlocal all all scram-sha-256",
                settings = { password_encryption = "scram-sha-256" } } -- the default is md5 before 14
            for _, password in ipairs { "@/:%#'\\ ?&=", "größe日本", "%41", "a b", ("x"):rep(200) } do
                local quoted = password:gsub("'", "''")
                server:psql(("drop role if exists bob; create role bob login password '%s'"):format(quoted))
                local e <close> = open { url = server:address { user = "bob", password = password } }
                assert.equal("bob", e:value "select current_user::text")
            end
        end)
    end)

    it("reports the reason when the server ends a session between two statements", function()
        local e <close> = open { size = 2 }
        local function ended(statement)
            local c <close> = e:acquire()
            local pid <const> = c:backend_pid()
            return raised(statement, c, function() assert(e:value("select pg_terminate_backend($1, 5000)", pid)) end)
        end
        for i, problem in ipairs {
            ended(function(c, stop) c:transaction(function(tx) stop() tx:query "select 1" end) end),
            ended(function(c, stop) c:transaction(stop) end),
            ended(function(c, stop) c:exec "begin" stop() c:pipeline(function(p) p:query "select 1" end) end),
            ended(function(c, stop) stop() c:query "select 1" end),
        } do
            assert.equal("57P01", problem.sqlstate, i)
            assert.equal("connect", problem.kind, i)
            assert.matches("terminating connection due to administrator command", problem.message, nil, nil, i)
            if problem.outcome == "not_sent" then
                assert.matches(i < 4 and "run all of it again" or "Run it again", problem.hint, nil, nil, i)
            end
        end
    end)

    it("usage errors name the function, and nothing is sent", function()
        for _, opts in ipairs { { size = "many" }, { sizes = 3 }, { timeout = -1 }, { mode = "both" },
            { reset = "maybe" },
            { statement_cache = 1.5 }, { connect_timeout = 0 }, { application_name = "a\0b" } } do
            opts.url = opts.url or pg.url()
            local problem = raised(db.engine, opts)
            assert.is_true(errors.is(problem, "usage"))
            assert.matches("db.engine", problem.message, 1, true)
        end
        assert.is_true(errors.is(raised(db.engine), "usage"))
        assert(mode)
    end)
end)

describe("[async] task.timeout around a statement", function()
    it("is of kind timeout and cancels the statement on the server", function()
        local e <close> = pg.engine { size = 2 }
        local pid = e:value "select pg_backend_pid()"
        local problem = raised(task.timeout, 0.1, e.value, e, "select pg_sleep(60), 'this one'")
        assert.is_true(errors.is(problem, "timeout"))
        pg.eventually(10, function()
            return e:value [[select count(*) from pg_stat_activity where query like '%this one%' and state = 'active'
                and pid <> pg_backend_pid()]] == 0
        end)
        pg.settled(e)
        assert.is_true(e:value("select $1 = any(array_agg(pid)) from pg_stat_activity", pid))
    end)
end)
