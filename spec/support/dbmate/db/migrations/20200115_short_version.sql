-- migrate:up
create materialized view authors as select distinct author from posts with no data;
-- migrate:down
drop materialized view authors;
