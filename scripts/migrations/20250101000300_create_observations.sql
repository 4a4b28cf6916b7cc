-- A value of a series at a time. The table is split by time: a hypertable where TimescaleDB is
-- installed, monthly partitions (in UTC) elsewhere. Either way the primary key contains the time, as
-- both kinds demand, and observations_prepare() makes room for a span of time before it is loaded.

-- migrate:up
do $$
declare
    columns constant text := $columns$
        series_id   bigint not null references series (id) on delete cascade,
        observed_at timestamptz not null,
        value       double precision not null,
        quality     smallint not null default 0 check (quality between 0 and 3),
        primary key (series_id, observed_at)
    $columns$;
    home text;
begin
    select quote_ident(n.nspname) into home
      from pg_extension e join pg_namespace n on n.oid = e.extnamespace
     where e.extname = 'timescaledb';
    if home is null then
        execute 'create table observations (' || columns || ') partition by range (observed_at)';
        return;
    end if;
    execute 'create table observations (' || columns || ')';
    if exists (select from pg_proc where proname = 'by_range') then
        execute format('select %1$s.create_hypertable(''observations'', %1$s.by_range(''observed_at'', '
                       'interval ''7 days''), create_default_indexes => false)', home);
    else -- before TimescaleDB 2.13
        execute format('select %s.create_hypertable(''observations'', ''observed_at'', '
                       'chunk_time_interval => interval ''7 days'', create_default_indexes => false)', home);
    end if;
end
$$;

-- The block above has made the table, which lint cannot see.
-- lint: allow index-not-concurrent
create index observations_observed_at_idx on observations (observed_at desc);

comment on table observations is 'Values over time, split by observed_at.';
comment on column observations.quality is '0 measured, 1 estimated, 2 corrected, 3 doubtful.';

create function observations_prepare(since timestamptz, until timestamptz) returns integer
language plpgsql
as $$
declare
    start timestamptz := date_trunc('month', since, 'UTC');
    stop timestamptz;
    part text;
    made integer := 0;
begin
    if not exists (select from pg_partitioned_table where partrelid = 'observations'::regclass) then
        return 0; -- a hypertable makes its chunks by itself
    end if;
    while start <= until loop
        stop := date_trunc('month', start + interval '32 days', 'UTC');
        part := 'observations_' || to_char(start at time zone 'UTC', 'YYYY_MM');
        if to_regclass(part) is null then
            execute format('create table %I partition of observations for values from (%L) to (%L)',
                           part, start, stop);
            made := made + 1;
        end if;
        start := stop;
    end loop;
    return made;
end
$$;

comment on function observations_prepare(timestamptz, timestamptz) is
    'Makes the partitions that a span of time needs; says how many were missing.';

-- Last month, this one, and a year ahead: a job or the next migration goes on from there.
select observations_prepare(now() - interval '1 month', now() + interval '1 year');

-- migrate:down
drop function observations_prepare(timestamptz, timestamptz);
drop table observations;
