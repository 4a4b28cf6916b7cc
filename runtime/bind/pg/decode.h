/*
 * Values of PostgreSQL as Lua values, from their text or their binary form: the same value either way.
 * Malformed input (a server that lies) raises; nothing is read outside of [p, p + len).
 */
#ifndef DBRUN_BIND_PG_DECODE_H
#define DBRUN_BIND_PG_DECODE_H

#include "bind/pg/decode_scalar.h"

/* Pushes one value. The text form must be followed by a NUL (libpq sees to that). */
void pg_decode(lua_State *L, const struct pg_decoder *d, const struct pg_type *t, const char *p, size_t len,
               bool binary);

#endif
