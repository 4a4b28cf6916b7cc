/*
 * Scalar values of PostgreSQL as Lua values. Runs only inside the resumed task, where an error reaches its
 * pcall. Malformed input (a server that lies) raises; nothing is read outside of [p, p + len).
 */
#ifndef DBRUN_BIND_PG_DECODE_SCALAR_H
#define DBRUN_BIND_PG_DECODE_SCALAR_H

#include "pg/types.h"

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

/* How an engine wants its values. */
struct pg_decoder {
    const struct pg_catalog *catalog;
    int codecs;         /* registry reference of {type name = {decode=, encode=}}; LUA_NOREF = none */
    bool numeric_float; /* numeric as a float instead of its exact text */
    bool in_codec;      /* one of them runs: what it decodes must stay where it is */
    bool epoch;         /* timestamps as seconds since 1970 instead of ISO 8601 */
};

/* Pushes one value that is no array, composite, range, multirange, hstore or vector. */
void pg_scalar_binary(lua_State *L, const struct pg_decoder *d, const struct pg_type *t, const char *p,
                      size_t len);
/* The text must be followed by a NUL. */
void pg_scalar_text(lua_State *L, const struct pg_decoder *d, const struct pg_type *t, const char *p,
                    size_t len);

#endif
