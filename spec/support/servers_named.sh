#!/bin/sh
# Succeeds when the environment or ./.env names a server, so that nothing of our own is to be started.
for key in DATABASE_URL MIGRATION_DATABASE_URL POSTGRES_HOST POSTGRES_PORT POSTGRES_DB POSTGRES_USER \
    PGHOST PGHOSTADDR PGPORT PGSERVICE REDIS_URL REDIS_HOST REDIS_PORT; do
    eval "value=\${$key-}"
    [ -n "$value" ] && exit 0
    [ -f .env ] && grep -Eq "^[[:space:]]*(export[[:space:]]+)?$key[[:space:]]*=[[:space:]]*[^[:space:]]" .env &&
        exit 0
done
exit 1
