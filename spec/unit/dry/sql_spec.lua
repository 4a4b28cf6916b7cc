--- How a dry run reads an SQL text.
local sql = require "dbrun.dry.sql"

describe("an SQL text, for a dry run,", function()
    local function first(text) return sql.facts(text, false).statements[1] end
    local function refused(text, escapes) return sql.facts(text, escapes or false).refused ~= nil end

    it("is refused when a statement anywhere in it would end the transaction", function()
        for _, text in ipairs { "commit", "select 1;\n-- x\ncommit", "ROLLBACK WORK", "end", "begin; select 1" } do
            assert.is_true(refused(text), text)
        end
        for _, text in ipairs { "rollback to a", "rollback work to savepoint a", "release a", "select 'commit'",
            "select $$; commit;$$", "create function f() returns int begin atomic; select 1; end",
            "do $$ begin null; end $$", "select case when true then 1 end", "/* commit */ select 1" } do
            assert.is_false(refused(text), text)
        end
    end)

    it("is read as the server reads its strings", function()
        assert.is_false(refused([[select 'a\'; commit; --']], true))
        assert.is_true(refused([[select 'a\'; commit; --']], false))
    end)

    it("names savepoints, settings, temporary tables and changes of the schema", function()
        assert.equal("a", first("savepoint a").savepoint)
        assert.equal("a b", first("rollback transaction to savepoint \"a b\"").back)
        assert.equal("a", first("release savepoint a").release)
        assert.same({ "app.user" }, first("set local app.user = '1'").settings)
        assert.same({ "TimeZone" }, first("set local time zone 'UTC'").settings)
        assert.same({ "app.user" }, first("select set_config('app.user', '1', true)").settings)
        assert.same({}, first("set app.user = '1'").settings)
        assert.equal("pg_temp.t", first("create temp table if not exists pg_temp.t (i int) on commit drop").drops)
        assert.equal("pg_temp.t", first("create temporary table t on commit delete rows as select 1").empties)
        assert.equal("CREATE INDEX", first("create unique index i on t (a)").changes)
        assert.equal("TRUNCATE t", first("truncate t").changes)
        assert.is_nil(first("insert into t values (1)").changes)
        assert.same({ "public", "t", "where" }, first("delete from public.t where true").targets)
    end)
end)
