-- Findings of lint within DO: statements of its PL/pgSQL, and the arguments of EXECUTE.
local fs = require "dbrun.fs"
local migrate = require "dbrun.migrate"

describe("lint within DO", function()
    local dir
    before_each(function() dir = fs.mkdtemp() end)
    after_each(function() fs.rmtree(dir) end)

    ---The rules with findings, and the line of the last finding.
    local function found(body)
        fs.write(dir .. "/1_x.sql", "-- migrate:up\ndo $do$" .. body .. "$do$;\n-- migrate:down\nselect 1;\n")
        local names, line = {}, nil
        for _, finding in ipairs(migrate.lint { dirs = { dir } }) do
            names[#names + 1], line = finding.rule, finding.line
        end
        return table.concat(names, " "), line
    end

    it("reads the argument of EXECUTE, as far as it is a literal", function()
        for _, text in ipairs {
            "'update t set a = 1'", "'update ' || 't' || ' set a = 1'", "'update ' || quote_ident(t) || ' set a = 1'",
            "'update ' || t::text || ' set a = ' || quote_literal(x)", "format('update %I set a = %L', t, x)",
            "format('update %1$I.%2$s set a = 1', s, t)", "'update t set ' || (c || ' = 1')",
            "concat('update ', t, ' set a = ', 1)", "E'update t\\nset a = \\'x\\''", "$q$update t set a = 'x'$q$",
            "'update t_' || n || ' set a = 1'", "format('update t_%s set a = 1', n)", "'update t set a = $1' using 1",
            "'update t set a = 1 returning a' into x", "concat(format('update %I', t), ' set a = 1')",
            "'update t set a = ''x''' || ''", "'update t set a = ' || 5 || ';'",
        } do
            assert.equal("unbounded-update", (found("begin execute " .. text .. "; end")), text)
        end
    end)

    it("ignores computed arguments, and those that cannot be read", function()
        for _, text in ipairs {
            "begin execute s; end", "begin execute a || b; end", "begin execute format(s, t); end",
            "begin execute; end",
            "begin execute 'upd' || x || ' t set a = 1'; end", "begin execute format('%s', s); end", "declare", "",
            "begin execute 'update t set a = 1 where b = ' || x; end", "begin execute ''; end", "declare ; begin end",
            "begin execute ('update t'; end", "begin execute 'update t set a = 1 where b = $1' using 'x'; end",
            "begin execute || ; end", "begin execute 'select ''x'; end", "begin x := ; execute x; end", "begin execute",
            "begin raise notice 'update t set a = 1; delete from t'; end", "begin if 'update t set a = 1' = x then "
            .. "null; end if; end",
        } do
            assert.equal("", (found(text)), text)
        end
    end)

    it("follows variables that are set to a text", function()
        for _, text in ipairs {
            "declare s text := 'update t set a = 1'; begin execute s; end",
            "declare n int; s text default 'update t set a = 1'; begin execute s; end",
            "declare s text; begin s := 'update ' || t; s := s || ' set a = 1'; execute s; end",
            "declare s text; begin if x then s = format('update %I set a = 1', t); end if; execute s; end",
            "declare s constant varchar(99) := 'update t set a = 1'; begin execute s using 1; end",
        } do
            assert.equal("unbounded-update", (found(text)), text)
        end
        assert.equal("", (found "declare s text := 'update t set a = 1'; begin s := f(); execute s; end"))
        assert.equal("", (found "declare s text := 'update t set a = 1'; begin s := 'select 1'; execute s; end"))
    end)

    it("does not follow a text that grows without end", function()
        local grow <const> = ("s := s || s; "):rep(200)
        assert.equal("", (found("declare s text := 'update t'; begin " .. grow .. "execute s; end")))
    end)

    it("reads every statement that follows a PL/pgSQL keyword", function()
        for _, text in ipairs {
            "begin update t set a = 1; end", "<<l>> begin update t set a = 1; end",
            "begin if a then null; elsif b then null; else update t set a = 1; end if; end",
            "begin case x when 1 then update t set a = 1; else null; end case; end",
            "begin for r in select 1 loop update t set a = 1; end loop; end",
            "begin <<w>> while true loop update t set a = 1; exit w; end loop w; end",
            "begin null; exception when others then update t set a = 1; end",
            "begin begin null; exception when unique_violation then null; end; update t set a = 1; end",
            "declare n int; begin update t set a = 1 returning a into n; end",
            "declare n int; begin update t set a = 1; get diagnostics n = row_count; end",
            "begin /* ; */ -- ;\n update t set a = 1; end",
        } do
            assert.equal("unbounded-update", (found(text)), text)
        end
        local _, line = found "\nbegin\n  execute 'update '\n    || 't set a = 1';\nend"
        assert.equal(4, line)
        _, line = found "\nbegin\n  perform 1;\n  perform 2; truncate t;\n\n  drop table u;\nend"
        assert.equal(7, line)
    end)
end)
