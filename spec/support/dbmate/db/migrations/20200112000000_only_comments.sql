-- migrate:up
-- nothing to do here
/* nor here; */
-- migrate:down
-- nor there
