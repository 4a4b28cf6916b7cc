-- TimescaleDB where the server has it loaded; without it this does nothing, and the migrations that
-- follow use what PostgreSQL itself offers. An extension that is there already is left alone, also by
-- the down section: the comment tells which one was made here.

-- migrate:up
do $$
begin
    if not exists (select from pg_extension where extname = 'timescaledb')
       and exists (select from pg_available_extensions where name = 'timescaledb')
       and current_setting('shared_preload_libraries') like '%timescaledb%' then
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
