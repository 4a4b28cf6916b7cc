-- A URL with several hosts: a primary and its standby, one of them down, both primaries.
local folder = require "spec.support.servers.folder"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local scripts = require "spec.support.scripts"
local servers = require "spec.support.servers"

describe("dbrun verify, about a URL with several hosts:", function()
    local primary, standby

    local lacking <const> = servers.pg_dump_lacks() -- pg_basebackup comes with pg_dump
    if lacking then
        pending(lacking)
        return
    end

    setup(function()
        primary = servers.postgres { tcp = true }
        standby = servers.postgres { tcp = true, standby_of = primary }
        standby:catch_up(primary)
    end)
    teardown(function()
        standby:close()
        primary:close()
    end)

    local function name(server) return ("127.0.0.1:%d"):format(server.tcp_port) end

    local function told(wanted, cause, params, ...)
        local hosts = {}
        for i, server in ipairs { ... } do hosts[i] = name(server) end
        local result = scripts.run("verify", { "--only", "postgres.members" }, {
            DATABASE_URL = ("postgresql://dbrun@%s/postgres?%s"):format(table.concat(hosts, ","), params) })
        assert.equal(wanted, result.stdout:match "(%u%u%u%u)  postgres.members ", result.text)
        if cause then assert.matches(cause, result.stdout, 1, true) end
        return result.stdout
    end

    ---Gives a server a new system identifier: all clusters of the specs are copies of one.
    local function renew(server)
        local uid, gid = folder.ids()
        local settings = fs.read(server.data .. "/postgresql.auto.conf")
        server:stop()
        fs.rmtree(server.data)
        local result = process.run { server.bindir .. "/initdb", "-D", server.data, "-U", server.user, "-A", "trust",
            "-N", "--locale=C.UTF-8", uid = uid, gid = gid, cwd = "/", stderr = "stdout", timeout = 60 }
        assert(result.ok, result.stdout)
        fs.write(server.data .. "/postgresql.auto.conf", settings)
        if uid then fs.chown(server.data .. "/postgresql.auto.conf", uid, gid) end
        server:start()
    end

    local WRITE <const> = "target_session_attrs=read-write"

    it("says which of them answers, and the roles of the others", function()
        told("PASS", ("primary %s (answers), standby %s"):format(name(primary), name(standby)), WRITE, primary, standby)
        told("PASS", ("standby %s, primary %s (answers)"):format(name(standby), name(primary)), WRITE, standby, primary)
        local text = told("WARN", "any member may answer, a standby too", "", standby, primary)
        assert.matches(("standby %s (answers)"):format(name(standby)), text, 1, true)
        assert.matches(WRITE, text, 1, true)
        told("SKIP", "the URL names one host", "", primary)
    end)

    it("treats two names of one server as one", function()
        local function ask(hosts)
            return scripts.run("verify", { "--only", "postgres.members" }, {
                DATABASE_URL = ("postgresql://dbrun@%s/postgres?%s"):format(hosts, WRITE) })
        end
        local port <const> = primary.tcp_port
        local result = ask(("127.0.0.1:%d,localhost:%d,%s"):format(port, port, name(standby)))
        assert.matches("PASS  postgres.members ", result.stdout, 1, true)
        assert.matches(("localhost:%d is 127.0.0.1:%d, standby"):format(port, port), result.stdout, 1, true)
    end)

    it("finds them in hostaddr, PGHOST and PGHOSTADDR, too", function()
        local ports <const> = ("%d,%d"):format(primary.tcp_port, standby.tcp_port)
        local two <const> = "127.0.0.1,127.0.0.1"
        for _, env in ipairs {
            { DATABASE_URL = ("hostaddr=%s port=%s user=dbrun dbname=postgres %s"):format(two, ports, WRITE) },
            { DATABASE_URL = ("host=a,b hostaddr=%s port=%s user=dbrun dbname=postgres %s"):format(two, ports, WRITE) },
            { PGHOST = two, PGPORT = ports }, { PGHOSTADDR = two, PGPORT = ports },
            { PGHOST = "a,b", PGHOSTADDR = two, PGPORT = ports },
        } do
            env.PGUSER, env.PGDATABASE, env.PGTARGETSESSIONATTRS = "dbrun", "postgres", "read-write"
            local result = scripts.run("verify", { "--only", "postgres.members" }, env)
            assert.matches("PASS  postgres.members ", result.stdout, 1, true)
            assert.matches(("primary %%S+:%d %%(answers%%), standby %%S+:%d\n"):format(primary.tcp_port,
                standby.tcp_port), result.stdout)
        end
    end)

    it("sees a member that is down, and that none accepts writes", function()
        primary:stop()
        finally(function() primary:start() end)
        local text = told("FAIL", "no member that answers is a primary", WRITE, primary, standby)
        assert.matches(name(primary) .. " does not answer", text, 1, true)
        told("FAIL", ("standby %s (answers)"):format(name(standby)), "target_session_attrs=any", primary, standby)
        told("SKIP", "no member answers", WRITE, primary, primary)
    end)

    it("sees members of different clusters, and two that accept writes", function()
        local other <close> = servers.postgres { tcp = true }
        renew(other)
        local text = told("FAIL", "the members are not of one cluster", WRITE, primary, other)
        assert.matches(("several members take writes: %s, %s"):format(name(primary), name(other)), text, 1, true)
        standby:promote()
        text = told("FAIL", "several members take writes", WRITE, primary, standby)
        assert.not_matches("not of one cluster", text, 1, true)
    end)
end)
