-- migrate:up
create rule quiet as on delete to part_1 do instead (update part_1 set id = 0; update part_1 set id = 1);
alter table part_2 enable row level security;
create policy own on part_2 using (id > 0);
-- migrate:down
drop policy own on part_2;
alter table part_2 disable row level security;
drop rule quiet on part_1;
