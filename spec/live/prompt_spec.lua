--- The prompt under a real terminal, with a separate PostgreSQL: SQL and Lua, pastes, transactions, lost connections.

local core <const> = require "dbrun.core"
local db <const> = require "dbrun.db"
local fs <const> = require "dbrun.fs"
local servers <const> = require "spec.support.servers"
local task <const> = require "dbrun.task"
local terminal <const> = require "spec.support.terminal"

describe("the prompt with a server", function()
    local server, term, folder

    setup(function()
        server = servers.postgres()
        folder = fs.mkdtemp(fs.join(fs.tempdir(), "dbrun-prompt-"))
    end)
    teardown(function()
        server:close()
        fs.rmtree(folder)
    end)
    before_each(function()
        term = terminal.start(("env DATABASE_URL='%s' HOME=%s XDG_STATE_HOME= %s"):format(server.url, folder, "lua"))
        term:expect "to end%.\n"
        term:expect "=> "
    end)
    after_each(function() term:close() end)

    local function answers(line, pattern)
        term:line(line)
        return term:expect(pattern)
    end

    it("runs SQL at its semicolon and Lua at Enter", function()
        answers("x = 40", "=> ")
        answers("select :x::int + 2", "%-> ")
        answers("as n;", "42\n.-Time: .-=> ")
        answers("= x + 1", "\n41\n.-=> ")
        answers("{ 1, { a = 2 } }", "{ 1, { a = 2 } }\n.-=> ")
        answers("select :nope;", "no Lua variable 'nope'.-=> ")
        answers("select 'one'; select nope; select 'three';", "one\n.-ERROR:  column \"nope\".-LINE 1.-%^\n.-=> ")
        assert.is_nil(term.seen:find "three\n")
        answers("select 1 as id, 2 as id;", "id.-id\n.-1.-2\n.-=> ")
        answers("select E'a\\x1b[2Jb';", "\\x1b%[2Jb.-=> ")
        assert.is_nil(term:text():find("a\27[2Jb", 1, true))
    end)

    it("holds a paste until Enter, and runs no line of it alone", function()
        answers("create table t as select generate_series(1, 3) as id;", "SELECT 3\n.-=> ")
        term:type "\27[200~delete from t\rwhere id = 1;\r\27[201~"
        term:expect "%-> where id = 1;\n%-> "
        term:type "\3"
        term:expect "=> "
        answers("select count(*) from t;", "3\n.-=> ")
        term:type "\27[200~delete from t\rwhere id = 1;\27[201~"
        term:expect "%-> where id = 1;\n%-> "
        answers("", "DELETE 1\n.-=> ")
        term:type "delete from t\nwhere id = 2;\n" -- a terminal without bracketed paste
        term:expect "DELETE 1\n.-=> "
        answers("drop table t;", "DROP TABLE\n.-=> ")
    end)

    it("keeps and shows 1,000 rows, and lets the statement complete", function()
        answers("create table big as select generate_series(1, 5000) as id, 0 as n;", "SELECT 5000\n.-=> ")
        answers("update big set n = 1 returning id;", "5000 rows: the first 1000 are shown.-=> ")
        answers("select sum(n) from big;", "5000\n.-=> ")
    end)

    it("shows the state of the transaction, and cancels at Ctrl-C", function()
        answers("begin;", "BEGIN\n.-=%*> ")
        answers("select nope;", "ERROR.-=!> ")
        answers("rollback;", "ROLLBACK\n.-[^*!]=?=> ")
        term:line "select 'sleeps', pg_sleep(60);"
        local engine <const> = db.engine { url = server.url, size = 1 }
        repeat
            local n <const> = engine:value [[select count(*) from pg_stat_activity
                where query like 'select ''sleeps%' and state = 'active']]
        until n == 1
        engine:close()
        term:type "\3"
        term:expect "interrupted!\n.-=> "
        answers("select 'there';", "there\n.-=> ")
    end)

    it("says what was lost with a connection, and reconnects", function()
        answers("begin;", "=%*> ")
        server:restart()
        answers("select 1;", "connection was lost, and the open transaction was rolled back.-=> ")
        answers("select 'back';", "Connected anew%..-back\n.-=> ")
    end)

    it("does not call a transaction rolled back whose COMMIT had no answer", function()
        answers("create table kept (n int);", "=> ")
        local engine <const> = db.engine { url = server.url, size = 1 }
        local function wait_for_standby(name)
            engine:query(("alter system set synchronous_standby_names = '%s'"):format(name))
            engine:query "select pg_reload_conf()"
        end
        wait_for_standby "nobody"
        answers("begin;", "=%*> ")
        answers("insert into kept values (1);", "=%*> ")
        term:line "commit;"
        repeat
            task.sleep(0.02)
        until #engine:query "select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'" > 0
        term:expect "whether the open transaction was committed is not known.-=> "
        wait_for_standby ""
        engine:close()
        answers("select count(*) from kept;", "1\n.-=> ")
    end)

    it("keeps the history, without secrets", function()
        answers("select 'kept';", "kept\n.-=> ")
        answers("select 'PASSWORD ''hidden-secret''';", "hidden.-=> ")
        term:type "\4"
        term:ends(0)
        local path <const> = fs.join(folder, ".local/state/dbrun/history")
        local text <const> = fs.read(path)
        assert.truthy(text:find("select 'kept';\n", 1, true))
        assert.is_nil(text:find("hidden", 1, true))
        assert.equal(tonumber("600", 8), fs.stat(path).mode & tonumber("777", 8))
        assert.is_string(core.options.program)
    end)

    it("has commands, and names that are not globals", function()
        answers("\\x", "One line a column is on.-=> ")
        answers("\\xx", "no command \\xx.-=> ")
        answers("= rawget(_G, 'db'), load 'return db'()", "nil\tnil\n.-=> ")
        answers("= db.async:value 'select 7'", "\n7\n.-=> ")
        answers("= _ + 1", "\n8\n.-=> ")
        answers("db = 'mine'", "=> ")
        answers("= db", "\nmine\n.-=> ")
        term:line "\\q"
        term:ends(0)
    end)
end)
