-- migrate:up
comment on table users is '-- migrate:down is no directive; here';
comment on column users.name is E'it''s \'; a text';
create view "Odd ; Name" as select 'a;b' as "c;d", $x$ $$ ; $x$ as e /* ; /* nested ; */ */;
-- migrate:down
drop view "Odd ; Name";
comment on column users.name is null;
comment on table users is null;
