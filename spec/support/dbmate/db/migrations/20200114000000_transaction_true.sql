-- migrate:up transaction:true
create table tagged (id int, tags text[] default '{}');
-- migrate:down transaction:yes
drop table tagged;
