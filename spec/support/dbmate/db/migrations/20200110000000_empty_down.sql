-- migrate:up
create table if not exists kept (id int);
-- migrate:down
