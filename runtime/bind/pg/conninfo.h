/* A connection string as keywords and values for libpq; an engine and its connects share it. */
#ifndef DBRUN_BIND_PG_CONNINFO_H
#define DBRUN_BIND_PG_CONNINFO_H

struct pg_conninfo {
    unsigned refs; /* changed by several threads: a connect can outlive its engine */
    char *target;  /* "host:port" for messages */
    char *advice;  /* the hint when no server can be reached; NULL: the hint of pg/errors.h */
    char **keywords;
    char **values;
    char *asked[2]; /* connect/asked.h; NULL: no settings to check */
    int plain;      /* connect/pg.h */
};

void pg_conninfo_ref(struct pg_conninfo *info);
/* Drops one reference; dropping the last one wipes the values and frees it. NULL is harmless. */
void pg_conninfo_unref(struct pg_conninfo *info);

#endif
