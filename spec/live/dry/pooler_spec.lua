--- A dry run through PgBouncer, whose sessions outlive it.
local dry = require "spec.support.dry"
local pgbouncer = require "spec.support.pgbouncer"
local servers = require "spec.support.servers"

if pgbouncer.is_there() then describe("a dry run behind a pooler of transactions", function()
    it("leaves no lock, no setting and no row in the session of the server", function()
        local server <close> = servers.postgres()
        local bouncer <close> = pgbouncer.start(server, { default_pool_size = 1 })
        local at <const> = { url = bouncer.url }
        for _ = 1, 2 do
            local result = dry.run(at, [[
                e:exec "create table t (id int); set search_path = nowhere; select pg_advisory_lock(1234)"
                e:exec "insert into public.t values (1)"
                print((e:value "select count(*) from pg_locks where locktype = 'advisory'"),
                    (e:value "show search_path"))]])
            assert.equal("1\tnowhere\n", result.stdout, result.stderr)
            assert.equal("dry run: rolled back\n  t  1 inserted\n  also run: CREATE TABLE\n", result.stderr)
        end
        local after = dry.run_for_real(at, [[
            print((e:value "select count(*) from pg_locks where locktype = 'advisory'"),
                (e:value "select to_regclass('public.t')"))
            print((e:value "show search_path"))]])
        assert.equal("0\tnil\n\"$user\", public\n", after.stdout, after.stderr)
    end)
end) end
