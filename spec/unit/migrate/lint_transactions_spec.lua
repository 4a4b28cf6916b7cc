-- Findings of lint that depend on the statements of one transaction: the migration's, a BEGIN ... COMMIT in a file with
-- transaction:false, one part of several, a DO.
local fs = require "dbrun.fs"
local migrate = require "dbrun.migrate"

describe("lint and transactions", function()
    local dir
    before_each(function() dir = fs.mkdtemp() end)
    after_each(function() fs.rmtree(dir) end)

    local function rules_of(text)
        fs.write(dir .. "/1_x.sql", text .. "\n-- migrate:down\n-- lint: allow missing-down\n")
        local names = {}
        for _, finding in ipairs(migrate.lint { dirs = { dir } }) do names[#names + 1] = finding.rule end
        table.sort(names)
        return table.concat(names, " ")
    end

    local function inside(text) return rules_of("-- migrate:up\n" .. text) end
    local function outside(text) return rules_of("-- migrate:up transaction:false\n" .. text) end

    it("finds statements in a block of the file that work only outside of a transaction", function()
        for _, text in ipairs { "create index concurrently i on t (a);", "vacuum t;", "drop index concurrently i;",
            "commit prepared 'x';" } do
            assert.equal("concurrently-in-transaction", outside("begin; " .. text .. " commit;"), text)
            assert.equal("concurrently-in-transaction", inside(text), text)
            assert.equal("", outside(text), text)
            assert.equal("", outside("begin; select 1; commit; " .. text), text)
        end
    end)

    it("checks the locks of a block together, and those of single statements separately", function()
        local locks <const> = "alter table t add a int; alter table u add a int;"
        assert.equal("two-strong-locks", inside(locks))
        assert.equal("", outside(locks))
        assert.equal("two-strong-locks", outside("begin; " .. locks .. " commit;"))
        assert.equal("", outside "begin; alter table t add a int; commit; begin; alter table u add a int; commit;")
        assert.equal("", outside "alter table t add a int; do $$begin alter table u add a int; end$$;")
        assert.equal("", outside "do $$begin alter table t add a int; commit; alter table u add a int; end$$;")
        assert.equal("two-strong-locks", outside("do $$begin " .. locks .. " end$$;"))
        assert.equal("data-beside-schema",
            outside "begin; alter table t add c int; update t set c = 1 where a = 1; end;")
        assert.equal("", outside "alter table t add c int; update t set c = 1 where a = 1;")
        assert.equal("enum-value-used",
            outside "begin; alter type e add value 'x'; insert into t values ('x'); commit;")
        assert.equal("", outside "alter type e add value 'x'; begin; insert into t values ('x'); commit;")
    end)

    it("reports once that a statement is refused", function()
        for _, text in ipairs { "select 'x;", "select\n1 +\n'x;", "\\i x.sql\n", "copy t from stdin;\n1\n" } do
            assert.equal("refused", inside(text), text)
        end
        assert.equal("not-looked-at refused", inside "craete table t;\nselect 'x;")
    end)

    it("reads strings by the setting that the file makes", function()
        assert.equal("", inside "set standard_conforming_strings = off;\nselect 'a\\'; b';")
        assert.equal("truncate", inside "set standard_conforming_strings = off;\nselect 'a\\'; b'; truncate t;")
    end)

    it("checks each part of a file with several pairs", function()
        assert.equal("two-strong-locks", rules_of("-- migrate:up\nalter table t add a int;\n-- migrate:down\n"
            .. "-- migrate:up\nalter table u add a int;"))
        assert.equal("", rules_of("-- migrate:up transaction:false\nalter table t add a int;\n-- migrate:down\n"
            .. "-- migrate:up\nalter table u add a int;"))
        assert.equal("concurrently-in-transaction", rules_of("-- migrate:up transaction:false\nvacuum t;\n"
            .. "-- migrate:down\n-- migrate:up\nvacuum u;"))
        assert.equal("truncate two-strong-locks",
            rules_of("-- migrate:up\n-- lint: allow truncate\ntruncate t;\n-- migrate:down\n"
            .. "-- migrate:up\ntruncate u;"))
    end)

    it("recognises a renamed table", function()
        assert.equal("rename", inside "alter table t rename to u; alter table u add a int;")
        assert.equal("set-schema", inside "alter table t set schema s; alter table s.t add a int;")
        assert.equal("rename two-strong-locks", inside "alter table t rename to u; alter table v add a int;")
    end)

    it("reports VALIDATE only while a stronger lock is held", function()
        assert.equal("", inside "alter table t validate constraint k; alter table t validate constraint l;")
        assert.equal("", inside "alter table t validate constraint k; alter table t drop constraint l;")
        assert.equal("", outside("alter table t add constraint k check (a > 1) not valid; "
            .. "alter table t validate constraint k;"))
        for _, text in ipairs { "alter table t add constraint k check (a > 1) not valid, validate constraint k;",
            "alter table t drop constraint l; alter table t validate constraint k;" } do
            assert.equal("validate-with-add", inside(text), text)
            assert.equal("validate-with-add", outside("begin; " .. text .. " commit;"), text)
        end
        assert.equal("two-strong-locks validate-with-add", inside("alter table u add a int; alter table v add b int; "
            .. "alter table t validate constraint k;"))
    end)

    it("does not assume that every CALL and DO ends transactions", function()
        for _, text in ipairs { "call p();", "call recompress_chunk('c');", "call merge_chunks('a', 'b');",
            "do $$begin call p(); end$$;", "do $$begin raise notice 'commit'; end$$;",
            "do language plperl 'spi_commit()';" } do
            assert.equal("", inside(text), text)
            assert.equal("", outside(text), text)
        end
        for _, text in ipairs { "do $$begin insert into t values (1); commit; end$$;",
            "do $$begin for i in 1..3 loop rollback; end loop; end$$;" } do
            assert.equal("concurrently-in-transaction", inside(text), text)
            assert.equal("", outside(text), text)
            assert.equal("concurrently-in-transaction", outside("begin; " .. text .. " commit;"), text)
        end
        assert.equal("concurrently-in-transaction", outside "do $$begin create index concurrently i on t (a); end$$;")
    end)

    it("knows statements that the server refuses in a transaction only with some options", function()
        local slot <const> = "create subscription s connection 'x' publication p"
        for _, text in ipairs { slot .. ";", slot .. " with (enabled = false);", "alter database d set tablespace x;",
            "create table p (a int) partition by range (a); reindex table p;" } do
            assert.matches("concurrently%-in%-transaction", inside(text), text)
            assert.is_nil(outside(text):find "concurrently", text)
        end
        for _, text in ipairs { slot .. " with (create_slot = false);", slot .. " with (connect = off);",
            "alter database d set work_mem = '1MB';", "alter database d connection limit 5;" } do
            assert.equal("", inside(text), text)
        end
    end)
end)
