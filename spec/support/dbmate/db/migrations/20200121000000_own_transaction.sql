-- migrate:up transaction:false
begin;
create table own_one (id int);
create table own_two (id int);
commit;
create index concurrently own_two_id on own_two (id);
-- migrate:down transaction:false
begin;
drop table own_two;
drop table own_one;
commit;
