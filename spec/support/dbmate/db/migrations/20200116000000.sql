-- migrate:up
create schema audit;
create table audit.log (at timestamptz, what jsonb);
-- migrate:down
drop schema audit cascade;
