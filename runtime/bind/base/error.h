/*
 * The error object that scripts see, one class for all errors. A table with the metatable "dbrun.error":
 * kind, message, retryable, outcome, where, and the fields of enum error_field (base/error.h). tostring() is
 * in lua/dbrun/error.lua.
 */
#ifndef DBRUN_BIND_ERROR_H
#define DBRUN_BIND_ERROR_H

#include "base/error.h"
#include "bind/base/runtime.h"

/* Pushes the error object made from `e`, with secrets masked; `where` is the script line that made the call.
 * Does not clear `e`: Lua must own it, so that it does not leak when this raises "not enough memory". */
void bind_error_push(lua_State *L, struct runtime *rt, const struct error *e);
/* Makes errors of the scheduler error objects, too. */
void bind_error_of_tasks(struct runtime *rt);
/* Clears `e` and raises the error object made from it. */
int bind_error_raise(lua_State *L, struct runtime *rt, struct error *e);
/* Raises an error of this kind; the format is lua_pushfstring's. */
int bind_fail(lua_State *L, struct runtime *rt, enum error_kind kind, const char *fmt, ...);
/* Raises a usage error with a hint. */
int bind_refuse(lua_State *L, struct runtime *rt, const char *message, const char *hint);

/* The C part of dbrun.error: new{kind=,message=,...} -> object, metatable() -> table. */
int bind_error_open(lua_State *L, struct runtime *rt);

#endif
