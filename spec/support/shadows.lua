--- A database whose objects have the names of PostgreSQL's own objects, and come first in the search path.
---
---     shadows.schema(psql)       -- a schema in front of pg_catalog: functions and operators that raise an error
---     shadows.temporary(conn)    -- temporary tables, which are types too: "text", "oid", "pg_class" ...
local M = {}

--- A function with the signature of each function of pg_catalog, and operators on them. Signatures that PL/pgSQL does
--- not support are left out, and so is the clock, which verify reads through the search_path.
local SCHEMA <const> = [[
create schema shadow;
do $$ declare f record; begin
    for f in select p.oid, proname, pg_get_function_arguments(p.oid) as args,
                    pg_get_function_result(p.oid) as result
               from pg_catalog.pg_proc p
              where pronamespace = 'pg_catalog'::regnamespace and prokind = 'f'
                and proname <> 'clock_timestamp' loop
        begin
            execute format('create function shadow.%I(%s) returns %s language plpgsql as '
                '''begin raise exception ''''%s of the schema in front''''; end''',
                f.proname, f.args, f.result, f.proname);
        exception when others then null;
        end;
    end loop;
    for f in select oprname, oprleft::regtype as l, oprright::regtype as r, oprcode::oid as code, p.proname
               from pg_catalog.pg_operator o join pg_catalog.pg_proc p on p.oid = o.oprcode
              where oprnamespace = 'pg_catalog'::regnamespace and oprleft <> 0 loop
        begin
            execute format('create operator shadow.%s (leftarg = %s, rightarg = %s, function = shadow.%I)', f.oprname,
                f.l, f.r, f.proname);
        exception when others then null;
        end;
    end loop;
end $$;
do $$ begin
    execute format('alter database %I set search_path = shadow, pg_catalog, public', current_database());
end $$;]]

--- Makes the schema, for sessions that begin from now on.
---@param psql fun(text: string): string
function M.schema(psql)
    psql(SCHEMA)
end

---@param conn table anything with `exec`
function M.temporary(conn)
    local sql <const> = {}
    for name in ([[
        text oid int8 int4 float8 bool name bytea jsonb regclass timestamptz varchar char record unknown numeric
        pg_type pg_class pg_attribute pg_range pg_proc pg_index pg_database pg_locks pg_stat_activity pg_settings
        pg_roles pg_extension pg_inherits pg_depend
    ]]):gmatch "%S+" do
        sql[#sql + 1] = ('create temporary table "%s" ("%s of another" int)'):format(name, name)
    end
    conn:exec(table.concat(sql, ";"))
end

return M
