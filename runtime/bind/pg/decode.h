/*
 * Values of PostgreSQL as Lua values, from their text or their binary form: the same value either way.
 * Malformed input (a server that lies) raises; nothing is read outside of [p, p + len).
 */
#ifndef DBRUN_BIND_PG_DECODE_H
#define DBRUN_BIND_PG_DECODE_H

#include "bind/base/runtime.h"
#include "pg/types.h"

/* How an engine wants its values. */
struct pg_decoder {
    const struct pg_catalog *catalog;
    int codecs;         /* registry reference of {type name = {decode=, encode=}}; LUA_NOREF = none */
    bool numeric_float; /* numeric as a float instead of its exact text */
    bool in_codec;      /* one of them runs: what it decodes must stay where it is */
    bool epoch;         /* timestamps as seconds since 1970 instead of ISO 8601 */
};

/* Pushes one value. The text form must be followed by a NUL (libpq sees to that). */
void pg_decode(lua_State *L, const struct pg_decoder *d, const struct pg_type *t, const char *p, size_t len,
               bool binary);

/* ---- between decode.c and decode_nested.c ---- */
/* `depth`: how many values the value is inside of; the text of a value inside of another can hold one more.
 */
void pg_decode_text(lua_State *L, const struct pg_decoder *d, const struct pg_type *t, const char *p,
                    size_t len, int depth);
void pg_decode_nested_text(lua_State *L, const struct pg_decoder *d, const struct pg_type *t, const char *p,
                           size_t len, int depth);
void pg_decode_array_binary(lua_State *L, const struct pg_decoder *d, const struct pg_type *t, const char *p,
                            size_t len);

#endif
