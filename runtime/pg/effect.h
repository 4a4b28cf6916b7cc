/*
 * How a statement affects prepared statements, determined from its words before it is sent. The command tag
 * does not say: CREATE TABLE AS and SELECT INTO have the tag SELECT, and set_config() is called in a SELECT.
 */
#ifndef DBRUN_PG_EFFECT_H
#define DBRUN_PG_EFFECT_H

#include <stdbool.h>
#include <stddef.h>

enum pg_effect {
    PG_HAS_PLAN = 1,        /* SELECT, INSERT and their like: worth preparing */
    PG_CHANGES_SCHEMA = 2,  /* DDL, and anything else that may contain DDL (DO, CALL) */
    PG_CHANGES_SESSION = 4, /* settings, or what a name means in this session (temporary tables) */
    PG_ENDS = 8,            /* COMMIT, ROLLBACK, also to a savepoint: undoes what the transaction changed */
    PG_CHANGES_FORMAT = 16, /* names a setting that values depend on (settings.h) */
    PG_RUNS = 32,           /* has no plan itself but runs one, with the functions that it calls */
    PG_MAY_COMMIT = 64,     /* CALL, DO with COMMIT, CONCURRENTLY: can fail after its own COMMIT */
    PG_CONCURRENT = 128     /* with CONCURRENTLY (concurrent.h) */
};

/* The combined effects of one or more statements. `plain_strings`: standard_conforming_strings is on. When it
 * is off, the end of a string with a backslash is unknown, and such a text has all effects. */
unsigned pg_effect_of(const char *sql, size_t len, bool plain_strings);

#endif
