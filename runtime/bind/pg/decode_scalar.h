/*
 * Makes Lua values from PostgreSQL's scalar values. Runs only in the resumed task, where an error reaches the
 * task's pcall. Raises when the server sent a malformed value; reads nothing outside [p, p + len).
 */
#ifndef DBRUN_BIND_PG_DECODE_SCALAR_H
#define DBRUN_BIND_PG_DECODE_SCALAR_H

#include "pg/libpq.h"
#include "pg/types.h"

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

/* An engine's settings for making Lua values. */
struct pg_decoder {
    const struct pg_catalog *catalog;
    int codecs;         /* registry reference of {type name = {decode=, encode=}}; LUA_NOREF = none */
    bool numeric_float; /* numeric as a float instead of its exact text */
    bool exact_json;    /* JSON numbers that Lua cannot hold exactly become strings instead of floats */
    bool in_codec;      /* a codec runs: the row that it decodes must not be freed or replaced */
    bool epoch;         /* timestamps as seconds since 1970 instead of ISO 8601 */
};

/* What is being read: values of a result, or rows of a COPY. */
struct pg_reading {
    const struct pg_decoder *by;
    const PGresult *result; /* NULL: a COPY */
    int names;              /* of a COPY: the stack index of the list of column names; 0 = none */
    int column;             /* the column of the value that is read, from 0 */
};

/* Push one value of any type except array, composite, range, multirange, hstore and vector. */
void pg_scalar_binary(lua_State *L, const struct pg_reading *d, const struct pg_type *t, const char *p,
                      size_t len);
/* The text must be followed by a NUL. */
void pg_scalar_text(lua_State *L, const struct pg_reading *d, const struct pg_type *t, const char *p,
                    size_t len);

#endif
