--- The start of the prompt: protected databases, servers that do not answer, a missing libedit; and its end.

local fs <const> = require "dbrun.fs"
local servers <const> = require "spec.support.servers"
local terminal <const> = require "spec.support.terminal"

describe("the start of the prompt", function()
    local url, name, folder, term

    setup(function()
        url, name = servers.database()
        folder = fs.mkdtemp(fs.join(fs.tempdir(), "dbrun-prompt-start-"))
    end)
    teardown(function() fs.rmtree(folder) end)
    after_each(function() term:close() end)

    local function start(environment, options)
        term = terminal.start(("env DATABASE_URL='%s' HOME=%s XDG_STATE_HOME= DBRUN_HISTORY= %s lua %s"):format(url,
            folder, environment, options or ""))
        return term:expect "to end%.\n.-> "
    end

    local function answers(line, pattern)
        term:line(line)
        return term:expect(pattern)
    end

    local function refuses_to_write()
        answers("create table never ();", "read%-only transaction.-=> ")
        answers("db.async:query 'create table never ()'", "read%-only transaction.-=> ")
        answers("conn:query 'create table never ()'", "read%-only transaction.-=> ")
    end

    it("is read-only on a protected database, also after a statement that makes the session writable", function()
        start("DBRUN_PROTECTED=" .. name)
        assert.truthy(term.seen:find "PostgreSQL [%d.]+%) READ%-ONLY PROTECTED")
        refuses_to_write()
        answers("set default_transaction_read_only = off;", "usage error: .-is protected.-=> ")
        answers("begin read write;", "usage error: .-is protected.-=> ")
        refuses_to_write()
    end)

    it("writes to a protected database that --target names", function()
        start("DBRUN_PROTECTED=" .. name, "--target " .. name)
        assert.is_nil(term:text():find "READ%-ONLY")
        answers("create table written ();", "CREATE TABLE\n.-=> ")
        answers("db.async:query 'drop table written'", "DROP TABLE.-=> ")
    end)

    it("is read-only when --target names another database", function()
        start("DBRUN_PROTECTED=" .. name, "--target other")
        assert.truthy(term:text():find("READ-ONLY: the target is the database '" .. name .. "', not 'other'", 1, true))
        answers("create table never ();", "the target is the database.-=> ")
        answers("db.async:query 'create table never ()'", "read%-only transaction.-=> ")
    end)

    it("says that no server answers, and goes on", function()
        term = terminal.start(("env DATABASE_URL='postgresql:///shop?host=%s' HOME=%s DBRUN_HISTORY= lua"):format(
            folder, folder))
        term:expect "No connection: .- The first SQL opens one%.\n"
        term:expect "shop=> "
        answers("select 1;", "connection error: .-Is the server running.-shop=> ")
        answers("6 * 7", "\n42\n.-shop=> ")
    end)

    it("reads plain lines without libedit, and names the missing package", function()
        fs.write(fs.join(folder, "libedit.so.2"), "no library\n")
        term = terminal.start(("env LD_LIBRARY_PATH=%s DATABASE_URL='%s' HOME=%s DBRUN_HISTORY= lua"):format(folder,
            url, folder))
        term:expect "libedit is not installed %(apt%-get install libedit2%)%.\n"
        term:expect "=> "
        answers("select", "%-> ")
        answers("'plain' as it;", "plain\n.-=> ")
        answers("21 * 2", "42\n.-=> ")
        term:type "\4"
        term:ends(0)
    end)

    for _, word in ipairs { "exit", "quit", "\\q", "exit;" } do
        it("ends at " .. word, function()
            start ""
            answers("begin;", "=%*> ")
            term:line(word)
            term:expect "The open transaction is rolled back%."
            term:ends(0)
        end)
    end
end)
