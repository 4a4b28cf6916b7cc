-- migrate:up this is a remark
alter table users add constraint name_given check (name <> '') not valid;
alter table users validate constraint name_given;
-- migrate:down and another one
alter table users drop constraint name_given;
