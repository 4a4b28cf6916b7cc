-- migrate:up
do $do$
begin
  for i in 1..3 loop
    execute format('create table part_%s (id int default %s)', i, i);
  end loop;
end
$do$;
-- migrate:down
drop table part_1, part_2, part_3;
