/*
 * Makes Lua values from PostgreSQL's values, in text or in binary: both forms give the same Lua value. Raises
 * when the server sent a malformed value; reads nothing outside [p, p + len).
 */
#ifndef DBRUN_BIND_PG_DECODE_H
#define DBRUN_BIND_PG_DECODE_H

#include "bind/pg/decode_scalar.h"

#include <lauxlib.h>

/* Pushes one value. A text must be followed by a NUL (libpq puts one there). */
void pg_decode(lua_State *L, const struct pg_reading *d, const struct pg_type *t, const char *p, size_t len,
               bool binary);

/* For a value that becomes an element of a list, where nil would leave a hole: turns the nil that a codec has
 * returned, on top of the stack, into db.null. */
static inline void pg_decode_fill(lua_State *L, const struct pg_reading *d)
{
    if (d->by->codecs != LUA_NOREF && lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_pushlightuserdata(L, NULL);
    }
}

#endif
