--migrate:up
alter table posts add created timestamptz default now();
--migrate:down
alter table posts drop created;
