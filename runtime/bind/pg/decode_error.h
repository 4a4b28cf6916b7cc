/*
 * The error for a value from the server that cannot become a Lua value. It names the column and says that the
 * statement has run.
 */
#ifndef DBRUN_BIND_PG_DECODE_ERROR_H
#define DBRUN_BIND_PG_DECODE_ERROR_H

#include "base/error.h"
#include "bind/pg/decode_scalar.h"

/* Raises the error for data that is not a valid value of its type. The format is lua_pushfstring's. */
int pg_decode_fail(lua_State *L, const struct pg_reading *d, const char *fmt, ...);
/* Adds the column to `e`, clears and raises it. */
int pg_decode_raise(lua_State *L, const struct pg_reading *d, struct error *e);

#endif
