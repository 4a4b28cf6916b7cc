-- TimescaleDB where the server has it loaded and this role may make it; without it this does nothing,
-- and the migrations that follow use what PostgreSQL itself offers. An extension that is there already
-- is left alone, also by the down section: the comment tells which one was made here.

-- migrate:up
do $$
begin
    if not exists (select from pg_extension where extname = 'timescaledb')
       and exists (select from pg_settings where name like 'timescaledb.%') -- its library is loaded
       and exists (select
                     from pg_available_extensions e
                     join pg_available_extension_versions v on v.name = e.name and v.version = e.default_version
                    where e.name = 'timescaledb'
                      and ((select rolsuper from pg_roles where rolname = current_user)
                           or (v.trusted and has_database_privilege(current_database(), 'create')))) then
        create extension timescaledb;
        comment on extension timescaledb is 'made by migration 20250101000000';
    end if;
end
$$;

-- migrate:down
do $$
begin
    if exists (select from pg_extension e
                where e.extname = 'timescaledb'
                  and obj_description(e.oid, 'pg_extension') = 'made by migration 20250101000000') then
        drop extension timescaledb;
    end if;
end
$$;
