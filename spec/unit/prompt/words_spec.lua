--- How the prompt distinguishes SQL and Lua.

local words <const> = require "dbrun.prompt.words"

local VALUES <const> = { select = true, table = true, load = true, notify = true, print = true, copy = false }
local function is_value(name) return VALUES[name] or false end

local function each(text)
    local lines <const> = {}
    for line in text:gmatch "[^\n]+" do
        line = line:match "^%s*|(.*)$"
        if line then lines[#lines + 1] = (line:gsub("\\n", "\n")) end
    end
    return lines
end

--- One per line, after the bar; \n is a line end.
local SQL <const> = each [=[
    |select 1
    |SELECT 1;
    |Select now()
    |select
    |select;
    |select 'x'
    |select "x"
    |select 'x;
    |select $1
    |select $$x$$
    |select -1
    |select +1
    |select *
    |select * from t
    |select .5
    |select (1);
    |select (1); -- one
    |select (select 1)
    |select (1) from t
    |SELECT (1)
    |select count(*) from t
    |select(1);
    |select :id
    |select :id, :name;
    |select :list[1]
    |select :id::text;
    |  select 1
    |	select 1
    |select/* a */1
    |select -- a
    |select -- a\n1;
    |-- a comment\nselect 1;
    |-- a\n-- b\n  update t set a = 1
    |/* a */ select 1
    |/* a /* b */ c */ select 1;
    |/* begins
    |/* a */ print(1)
    |; select 1
    |(select 1);
    |(select 1) union (select 2)
    |((select 1));
    |(values (1), (2));
    |( /* a */ with x as (select 1) select * from x);
    |(table t);
    |(select
    |begin
    |BEGIN;
    |begin isolation level serializable
    |begin work;
    |start transaction
    |commit
    |commit and chain;
    |rollback
    |rollback to a
    |abort
    |savepoint a
    |release a
    |values (1)
    |values (1), (2);
    |with x as (select 1) select * from x
    |with recursive x(n) as (select 1) select n from x
    |with x(a) as (values (1)) table x
    |insert into t values (1)
    |insert into t (a) select 1
    |update t set a = 1
    |update only t set a = 1
    |update "t" set a = 1
    |delete from t
    |delete from t where id = 1;
    |merge into t using u on t.id = u.id when matched then delete
    |truncate t, u
    |copy t to stdout
    |copy (select 1) to stdout
    |copy(select 1) to stdout;
    |create table t (a int)
    |create index on t (a)
    |create or replace function f() returns int begin atomic select 1; end
    |alter table t add b int
    |drop table t
    |comment on table t is 'x'
    |grant select on t to u
    |revoke all on t from u
    |reassign owned by a to b
    |explain select 1
    |explain (analyze, buffers) select 1
    |analyze
    |analyze t;
    |vacuum
    |vacuum (full) t
    |reindex table t
    |cluster t
    |refresh materialized view m
    |set x = 1
    |set search_path to a, b
    |set local work_mem = '1MB'
    |set "my.x" to 1
    |reset all
    |show all
    |show search_path
    |show "x"
    |listen a
    |unlisten *
    |notify a, 'b'
    |notify "a"
    |lock table t
    |lock t in share mode
    |declare c cursor for select 1
    |fetch 10 from c
    |move c
    |close c
    |prepare p as select 1
    |prepare p (int) as select $1
    |execute p
    |execute p(1)
    |deallocate all
    |discard all
    |checkpoint
    |call p()
    |import foreign schema a from server b into c
    |security label on table t is 'x'
    |table t
    |TABLE t
    |table t;
    |table "Order"
    |table only t
    |table pg_class;
    |table s.t
    |do $$ begin end $$
    |do $x$ begin end $x$;
    |do $$
    |do$$begin end$$
    |DO 'begin end'
    |do language plpgsql $$ begin end $$
    |do LANGUAGE 'plpgsql' $$ begin end $$
    |do language
    |do -- why\n$$
]=]

local LUA <const> = each [=[
    |1 + 1
    |=1 + 1
    |= select
    |=select(2, 3, 4)
    |  = 1
    |x = 1
    |local x = 1
    |print "select 1"
    |print(1) -- select
    |"select 1"
    |update = 1
    |update= 1
    |update == 1
    |update ~= 1
    |set.x
    |set.x = 1
    |set . x
    |set["x"] = 1
    |set [1]
    |set{ 1 }
    |set:add(1)
    |set:add "x"
    |set:add{ 1 }
    |set:add [[x]]
    |set: add (1)
    |set, x = 1, 2
    |SELECT = 1
    |select.x
    |select .. "x"
    |select ~ 1
    |select(2, "a", "b")
    |select (2, "a", "b")
    |select('#', 1, 2)
    |select (1)
    |(select(2, "a", "b"))
    |(select)
    |(select).x
    |(select or print)(1)
    |(1 + 1) * 2
    |("select 1"):upper()
    |(x)
    |notify(1)
    |selected = 1
    |select_x = 1
    |select1
    |_select
    |begins()
    |begin_at = 1
    |table
    |table.concat({ 1, 2 })
    |table .insert(t, 1)
    |table["concat"]
    |table = table
    |table == nil
    |table and 1
    |table or {}
    |table(1)
    |do x() end
    |do local x = 1 end
    |do
    |do end
    |do language = 1 end
    |do language.x = 1 end
    |do language() end
    |do languages "x" end
    |do -- $$
    |end
    |end;
    |load "return 1"
    |load 'return 1'
    |load(f)
    |for i = 1, 2 do
    |if x then
    |while true do
    |repeat
    |function f()
    |return 1
    |goto done
    |::done::
    |-- select 1
    |-- a comment
    |--[[ a ]] select 1
    |--[==[ a
    |-- a\nprint(1)
    |-- a\nupdate = 1
    |not select
    |#t
    |-1
    |{ 1 }
    |{}
    |
    |;
    |nil
    |db.async:query("select 1")
    |conn:one "select 1"
    |r:set("a", 1)
    |json.encode({})
    |é
]=]

local COMMANDS <const> = each [=[
    |\d
    |\d t
    |  \x
    |\
    |\?
    |\q;
    |\help select
]=]

describe("the first word", function()
    it("recognises SQL", function()
        assert.is_true(#SQL >= 120)
        for _, line in ipairs(SQL) do assert.equal(line .. ": sql", line .. ": " .. words.kind(line, is_value)) end
    end)

    it("recognises Lua, also when an SQL word is a name in the program", function()
        assert.is_true(#LUA >= 80)
        assert.equal("lua", words.kind("   ", is_value))
        for _, line in ipairs(LUA) do assert.equal(line .. ": lua", line .. ": " .. words.kind(line, is_value)) end
    end)

    it("recognises commands", function()
        for _, line in ipairs(COMMANDS) do
            assert.equal(line .. ": command", line .. ": " .. words.kind(line, is_value))
        end
    end)

    it("looks up values only when a bracket follows, and uses globals by default", function()
        assert.equal("sql", words.kind("insert (1)", is_value))
        assert.equal("lua", words.kind("insert (1)", function(name) return name == "insert" end))
        assert.equal("lua", words.kind "select (1)")
        assert.equal("sql", words.kind "values (1)")
        assert.equal("sql", words.kind("select 1", error))
    end)
end)
