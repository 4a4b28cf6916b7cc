/*
 * Makes Lua values from PostgreSQL's values, in text or in binary: both forms give the same Lua value. Raises
 * when the server sent a malformed value; reads nothing outside [p, p + len).
 */
#ifndef DBRUN_BIND_PG_DECODE_H
#define DBRUN_BIND_PG_DECODE_H

#include "bind/pg/decode_scalar.h"

/* Pushes one value. A text must be followed by a NUL (libpq puts one there). */
void pg_decode(lua_State *L, const struct pg_reading *d, const struct pg_type *t, const char *p, size_t len,
               bool binary);

#endif
