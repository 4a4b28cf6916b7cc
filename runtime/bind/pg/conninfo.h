/* A connection string as libpq wants it; shared by an engine and its connects. */
#ifndef DBRUN_BIND_PG_CONNINFO_H
#define DBRUN_BIND_PG_CONNINFO_H

struct pg_conninfo {
    unsigned refs; /* counted from several threads: the loop's, and those that connect for an engine that is
                      gone */
    char *target;  /* "host:port" for messages */
    char **keywords;
    char **values;
};

void pg_conninfo_ref(struct pg_conninfo *info);
/* Gives up one count; the last one frees it, and wipes the values. NULL is harmless. */
void pg_conninfo_unref(struct pg_conninfo *info);

#endif
