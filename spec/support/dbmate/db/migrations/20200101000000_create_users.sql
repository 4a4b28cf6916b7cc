-- migrate:up
CREATE TABLE users (
  id integer PRIMARY KEY,
  name varchar(255) NOT NULL,
  email varchar(255) NOT NULL
);

-- migrate:down
DROP TABLE users;
