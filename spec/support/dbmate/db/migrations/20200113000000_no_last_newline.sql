-- migrate:up
create sequence counter start 100;
-- migrate:down
drop sequence counter