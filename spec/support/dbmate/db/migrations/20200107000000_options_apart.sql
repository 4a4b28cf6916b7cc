-- migrate:up transaction:false env:all
create type mood as enum ('sad', 'ok');
alter type mood add value 'happy';
-- migrate:down
drop type mood;
