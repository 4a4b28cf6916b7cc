-- migrate:up
create domain positive as int check (value > 0);
create table 日本 ("größe" positive);
-- migrate:down
drop table 日本;
drop domain positive;
