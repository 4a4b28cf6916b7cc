-- TLS, certificates, passwords and their sources. A wrong one is refused with its cause, no connection falls back to
-- plain text, and no password is ever printed.
local certificates = require "spec.support.certificates"
local errors = require "dbrun.error"
local fake = require "spec.support.fake"
local folder = require "spec.support.servers.folder"
local fs = require "dbrun.fs"
local pg = require "spec.support.pg"
local process = require "dbrun.process"
local servers = require "spec.support.servers"

local HBA <const> = [[
local    all     dbrun                trust
local    all     all                  scram-sha-256
hostssl  all     joe  127.0.0.1/32    scram-sha-256
hostssl  all     cert 127.0.0.1/32    cert
host     all     plain 127.0.0.1/32   scram-sha-256
]]

--- Passwords that break a connection string that is built without quoting, and one that SASLprep changes.
local PASSWORDS <const> = {
    "@/:%#'\\ ", "a b&c=d?e", "%41%zz", "'; drop role joe; --", "\"{}[]$1", "pässwörd→日本🙂", "ﬁ\u{00A0}ª",
    " leading and trailing ", ("long"):rep(200),
}

local private <const> = tonumber("600", 8)

--- A folder with an authority, certificates for several servers, and one for the client `cert`.
local function make_certificates()
    local dir <const> = folder.new "tls"
    certificates.authority(dir, "ca")
    certificates.authority(dir, "other")
    certificates.sign(dir, "ca", "server", "DNS:localhost,IP:127.0.0.1")
    certificates.sign(dir, "ca", "expired", "DNS:localhost", true)
    certificates.sign(dir, "ca", "elsewhere", "DNS:db.example.com")
    certificates.sign(dir, "ca", "cert", "DNS:client")
    certificates.sign(dir, "other", "stranger", "DNS:client")
    for _, name in ipairs { "server", "expired", "elsewhere" } do
        local key <const> = ("%s/%s.key"):format(dir, name)
        fs.chmod(key, private)
        if folder.user then fs.chown(key, folder.ids()) end
    end
    for _, name in ipairs { "cert", "stranger" } do fs.chmod(("%s/%s.key"):format(dir, name), private) end
    return dir
end

describe("PostgreSQL over the network", function()
    local server, dir
    local shown = "server"

    --- The server uses this certificate from now on.
    local function shows(name)
        if name == shown then return end
        shown = name
        server:psql(("alter system set ssl_cert_file = '%s/%s.crt'"):format(dir, name))
        server:psql(("alter system set ssl_key_file = '%s/%s.key'"):format(dir, name))
        server:psql "select pg_reload_conf()"
        pg.eventually(10, function()
            return server:psql("select setting from pg_settings where name = 'ssl_cert_file'")
                == ("%s/%s.crt"):format(dir, name)
        end)
        -- The postmaster loads it before it signals its children; the child of a new connection has it.
    end

    local function address(user, params, opts)
        local all <const> = { user = user, host = "localhost", params = {} }
        for name, value in pairs(opts or {}) do all[name] = value end
        for name, value in pairs(params or {}) do all.params[name] = value:gsub("DIR", dir) end
        return server:address(all)
    end

    setup(function()
        dir = make_certificates()
        server = servers.postgres {
            tcp = true, hba = HBA,
            settings = {
                ssl = "on", ssl_cert_file = dir .. "/server.crt", ssl_key_file = dir .. "/server.key",
                ssl_ca_file = dir .. "/ca.crt",
            },
        }
        server:psql "create role joe login password 'right'; create role plain login password 'right'"
        server:psql "create role cert login"
    end)
    teardown(function()
        server:close()
        fs.rmtree(dir)
    end)

    pg.on_both(describe, function(_, open)
        local function works(url)
            local e <close> = open { url = url, size = 1 }
            return e:one [[select ssl, client_dn, current_user as name from pg_stat_ssl where pid = pg_backend_pid()]]
        end

        --- Refused for this reason; the message contains no secret.
        local function refused(url, layer, pattern)
            local e <close> = open { url = url, size = 1 }
            local err <const> = pg.raised(e.value, e, "select 1")
            assert.is_true(errors.is(err, "connect"), tostring(err))
            assert.equal("not_sent", err.outcome)
            assert.equal(layer, err.layer, tostring(err))
            assert.matches(pattern, err.message)
            assert.is_string(err.hint)
            assert.not_matches("right", tostring(err))
            assert.equal(0, e:stats().open)
            return err
        end

        describe("with verify-full", function()
            local params <const> = { sslmode = "verify-full", sslrootcert = "DIR/ca.crt" }
            local joe

            before_each(function()
                joe = address("joe", params, { password = "right" })
            end)
            after_each(function()
                shows "server"
            end)

            it("works by name and by address", function()
                assert.is_true(works(joe).ssl)
                assert.is_true(works(address("joe", params, { password = "right", host = "127.0.0.1" })).ssl)
            end)

            it("refuses a certificate of an authority that it does not know", function()
                refused(address("joe", { sslmode = "verify-full", sslrootcert = "DIR/other.crt" },
                    { password = "right" }), "tls", "certificate verify failed")
            end)

            it("refuses a certificate for another name, and names both", function()
                shows "elsewhere"
                local err <const> = refused(joe, "tls", "db%.example%.com.-localhost")
                assert.matches("sslmode", err.hint)
            end)

            it("refuses an expired certificate", function()
                shows "expired"
                -- libpq does not say which of the two it was: the hint names both, and how to find out.
                local err <const> = refused(joe, "tls", "certificate verify failed")
                assert.matches("expired", err.hint)
                assert.matches("`openssl s_client -starttls postgres", err.hint, 1, true)
            end)

            it("names the missing file of the authority", function()
                refused(address("joe", { sslmode = "verify-full", sslrootcert = "/nonexistent/ca.crt" },
                    { password = "right" }), "tls", "/nonexistent/ca%.crt")
            end)
        end)

        it("sends a client certificate when the server requests one", function()
            local own <const> = {
                sslmode = "verify-full", sslrootcert = "DIR/ca.crt", sslcert = "DIR/cert.crt", sslkey = "DIR/cert.key",
            }
            local row <const> = works(address("cert", own))
            assert.equal("cert", row.name)
            assert.matches("CN=cert", row.client_dn)
            refused(address("cert", { sslmode = "require" }), "authentication", "certificate")
            own.sslcert, own.sslkey = "DIR/stranger.crt", "DIR/stranger.key"
            refused(address("cert", own), "tls", "unknown ca")
            own.sslcert = "DIR/missing.crt"
            refused(address("cert", own), "authentication", "valid client certificate")
            own.sslcert, own.sslkey = "DIR/cert.crt", "DIR/missing.key"
            refused(address("cert", own), "tls", "missing%.key")
        end)

        it("never falls back to plain text when TLS is required", function()
            for _, params in ipairs {
                { sslmode = "require" }, { sslmode = "verify-ca", sslrootcert = "DIR/ca.crt" },
                { sslmode = "verify-full", sslrootcert = "DIR/ca.crt" },
            } do
                -- A peer that refuses TLS, like an attacker in between, must receive nothing of the login.
                local peer <close> = fake.record { "N", tcp = true }
                refused(server:address { user = "plain", password = "right", host = "127.0.0.1", params = {
                    sslmode = params.sslmode, hostaddr = "127.0.0.1", port = tostring(peer.port),
                    sslrootcert = params.sslrootcert and params.sslrootcert:gsub("DIR", dir) or "",
                } }:gsub(":%d+/", "/"), "tls", "does not support SSL")
                assert.equal("\0\0\0\8\4\210\22\47", peer:heard())
            end
            assert.is_false(works(address("plain", { sslmode = "disable" }, { password = "right" })).ssl)
            assert.is_true(works(address("plain", { sslmode = "require" }, { password = "right" })).ssl)
        end)

        it("says that this user can connect with TLS only", function()
            local err <const> = refused(address("joe", { sslmode = "disable" }, { password = "right" }),
                "authentication", "no encryption")
            assert.equal("28000", err.sqlstate)
        end)
    end)
end)

describe("A password", function()
    local server, dir

    setup(function()
        server = servers.postgres { hba = "local all dbrun trust\nlocal all all scram-sha-256" }
        dir = fs.mkdtemp()
    end)
    teardown(function()
        server:close()
        fs.rmtree(dir)
    end)

    local function set(password)
        server:psql("do $$ begin if not exists (select from pg_roles where rolname = 'joe') then "
            .. "create role joe login; end if; end $$")
        server:psql(("set standard_conforming_strings = on; alter role joe password '%s'"):format(
            (password:gsub("'", "''"))))
    end

    --- A separate program, with only these variables and the most detailed log.
    local function run(env, source)
        local all <const> = { HOME = dir, PATH = os.getenv "PATH" }
        for name, value in pairs(env) do all[name] = value end
        local result <const> = process.run {
            require "dbrun.core".options.program, "--no-env", "--log", "debug", "-", stdin = source,
            env = all, clear_env = true, timeout = 30,
        }
        result.text = result.stdout .. result.stderr
        return result
    end

    local WHO <const> = [[
        local db = require "dbrun.db"
        local sync = db.engine { url = (...), mode = "sync" }
        print(db.engine { url = "" }:value "select current_user", sync:value "select current_user")]]

    pg.on_both(describe, function(_, open)
        it("of any characters works, in a URL, in keywords, and is never printed", function()
            for _, password in ipairs(PASSWORDS) do
                set(password)
                local function value(url)
                    local e <close> = open { url = url, size = 1 }
                    return e:value "select current_user"
                end
                local quoted <const> = password:gsub("['\\]", "\\%0")
                assert.equal("joe", value(server:address { user = "joe", password = password }))
                assert.equal("joe", value(("host=%s user=joe dbname=postgres password='%s'"):format(server.sockdir,
                    quoted)))
                local e <close> = open { url = server:address { user = "joe", password = password .. "x" }, size = 1 }
                local err <const> = pg.raised(e.value, e, "select 1")
                assert.equal("28P01", err.sqlstate)
                assert.equal("authentication", err.layer)
                assert.is_nil(tostring(err):find(password, 1, true))
            end
        end)

        it("that is missing is an error that names the places to set it", function()
            set "right"
            local e <close> = open { url = server:address { user = "joe" }, size = 1 }
            local err <const> = pg.raised(e.value, e, "select 1")
            assert.equal("authentication", err.layer)
            assert.matches("no password supplied", err.message)
            assert.matches("pgpass", err.hint)
        end)
    end)

    it("comes from PG* variables", function()
        set "right #1"
        local result <const> = run({ PGHOST = server.sockdir, PGUSER = "joe", PGPASSWORD = "right #1",
            PGDATABASE = "postgres" }, WHO:gsub("%(%.%.%.%)", '""'))
        assert.equal("joe\tjoe\n", result.stdout, result.text)
        assert.not_matches("right #1", result.text, 1, true)
    end)

    it("comes from .pgpass, whose ':' and '\\' are escaped, when no other user can read it", function()
        local password <const> = "a:b\\c d"
        set(password)
        local line <const> = ("%s:*:*:joe:%s\n"):format(server.sockdir, (password:gsub("[:\\]", "\\%0")))
        fs.write(dir .. "/.pgpass", line, private)
        local env <const> = { PGHOST = server.sockdir, PGUSER = "joe", PGDATABASE = "postgres" }
        local source <const> = WHO:gsub("%(%.%.%.%)", '""')
        local result = run(env, source)
        assert.equal("joe\tjoe\n", result.stdout, result.text)
        fs.rename(dir .. "/.pgpass", dir .. "/elsewhere")
        env.PGPASSFILE = dir .. "/elsewhere"
        assert.equal("joe\tjoe\n", run(env, source).stdout)
        fs.chmod(dir .. "/elsewhere", tonumber("644", 8))
        result = run(env, source)
        assert.equal(1, result.code)
        assert.is_nil(result.text:find(password, 1, true))
    end)

    it("comes from a service file", function()
        set "right=2"
        fs.write(dir .. "/services", ("[mine]\nhost=%s\nuser=joe\ndbname=postgres\npassword=right=2\n"):format(
            server.sockdir), private)
        local result = run({ PGSERVICEFILE = dir .. "/services", PGSERVICE = "mine" },
            WHO:gsub("%(%.%.%.%)", '"service=mine"'))
        assert.equal("joe\tjoe\n", result.stdout, result.text)
        result = run({ PGSERVICEFILE = dir .. "/services" },
            [[print(require "dbrun.db".engine { url = "service=none" }:value "select 1")]])
        assert.equal(1, result.code)
        assert.matches('service "none" not found', result.stderr, 1, true)
    end)

    it("is never printed: not in errors, not in the most detailed log, not in the process's title", function()
        set "right"
        for _, secret in ipairs { "hunter22", "sécret: 'x'\\", "sp ace" } do
            local url <const> = server:address { user = "joe", password = secret }
            local result <const> = run({ DATABASE_URL = url }, [[
                local db, config, process = require "dbrun.db", require "dbrun.config", require "dbrun.process"
                print(pcall(db.async.value, db.async, "select 1"))
                print(pcall(db.sync.value, db.sync, "select 1"))
                print(config.explain())
                local f <close> = io.open("/proc/self/cmdline", "rb")
                print(f:read "a")
                for _, row in ipairs(type(config.explain()) == "table" and config.explain() or {}) do
                    for key, value in pairs(row) do print(key, value) end
                end
                db.async:value "select 1"]])
            assert.equal(1, result.code, result.text)
            assert.matches("28P01", result.text)
            assert.is_nil(result.text:find(secret, 1, true), result.text)
            assert.is_nil(result.text:find((secret:gsub("[^%w]", function(c)
                return ("%%%02X"):format(c:byte())
            end)), 1, true), result.text)
        end
    end)
end)
