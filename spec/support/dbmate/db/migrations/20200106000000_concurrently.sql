-- migrate:up transaction:false
create index concurrently posts_created on posts (created);
create unique index concurrently users_email on users (lower(email));
-- migrate:down transaction:false
drop index concurrently users_email;
drop index concurrently posts_created;
