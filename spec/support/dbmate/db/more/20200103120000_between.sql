-- migrate:up
create table between_two (id int generated always as identity, doubled int generated always as (1 + 1) stored);
-- migrate:down
drop table between_two;
