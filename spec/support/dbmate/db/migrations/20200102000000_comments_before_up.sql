-- A file may begin with comments

  -- indented ones, too
-- migrate:up
create table posts (id integer primary key, author integer not null references users (id), body text);
-- migrate:down
drop table posts;
