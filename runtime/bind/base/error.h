/*
 * The error object that scripts see (one class for everything). A table with the metatable
 * "dbrun.error": kind, message, sqlstate, detail, hint, position, constraint, table, column, code,
 * retryable, outcome, where; tostring() prints it with the caret under the position.
 */
#ifndef DBRUN_BIND_ERROR_H
#define DBRUN_BIND_ERROR_H

#include "base/error.h"
#include "bind/base/runtime.h"

/* Pushes the error object made from `e`: secrets masked, `where` = the script line that called.
 * `e` is left as it is: keep it where a raised "not enough memory" does not leak it. */
void bind_error_push(lua_State *L, struct runtime *rt, const struct error *e);
/* Raises it; `e` is cleared first. (While the object is made, the text is held by the Lua side.) */
int bind_error_raise(lua_State *L, struct runtime *rt, struct error *e);
/* Raises an error of this kind; the format is lua_pushfstring's. */
int bind_fail(lua_State *L, struct runtime *rt, enum error_kind kind, const char *fmt, ...);

/* The C part of dbrun.error: new{kind=,message=,...} -> object, is(v), plus the metatable. */
int bind_error_open(lua_State *L, struct runtime *rt);

#endif
