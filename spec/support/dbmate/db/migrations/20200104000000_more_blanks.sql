--   migrate:up
create index posts_author on posts (author);
--	migrate:down
drop index posts_author;
