-- migrate:up
create table crlf (
  id int
);

-- migrate:down
drop table crlf;
