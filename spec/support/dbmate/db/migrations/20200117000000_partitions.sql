-- migrate:up
create table events (at date not null, n int) partition by range (at);
create table events_2020 partition of events for values from ('2020-01-01') to ('2021-01-01');
create table events_rest partition of events default;
-- migrate:down
drop table events;
