#include "bind/pg/decode_error.h"

#include "bind/base/error.h"

#include <stdlib.h>

/* The name of the column; NULL when it is not known. May leave the name on the stack. */
static const char *column_name(lua_State *L, const struct pg_reading *d)
{
    if (d->result)
        return PQfname(d->result, d->column);
    if (!d->names || !lua_checkstack(L, 1) || lua_type(L, d->names) != LUA_TTABLE)
        return NULL;
    return lua_rawgeti(L, d->names, d->column + 1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
}

int pg_decode_raise(lua_State *L, const struct pg_reading *d, struct error *e)
{
    const char *name = column_name(L, d);
    struct error placed = {0};
    error_set(&placed, e->kind, "column %d%s%s%s: %s", d->column + 1, name ? " (\"" : "", name ? name : "",
              name ? "\")" : "", e->message);
    placed.column = d->column + 1;
    placed.outcome = OUTCOME_UNKNOWN;
    error_set_field(&placed, ERROR_COLUMN, name);
    error_set_field(&placed, ERROR_HINT, e->field[ERROR_HINT]);
    error_set_field(&placed, ERROR_CONTEXT,
                    "the statement has run; this failed: making Lua values of its result");
    error_clear(e);
    return bind_error_raise(L, bind_find(L), &placed);
}

int pg_decode_fail(lua_State *L, const struct pg_reading *d, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    const char *text = lua_pushvfstring(L, fmt, ap);
    va_end(ap);
    struct error e = {0};
    error_set(&e, ERROR_PROTOCOL, "%s", text);
    return pg_decode_raise(L, d, &e);
}
