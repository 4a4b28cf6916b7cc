/*
 * The metatable of rows and results: one for each list of columns, with only `__tostring` and `columns`. So
 * rows are plain tables except for print, JSON and callers of core.rows.
 *
 * core.rows: columns(v) -> the list of columns, when v is a row or result; kind(v) -> "result", "row", "list"
 * (a row by position) or nil; names(v) -> the columns' names, each once; proxy(v) -> the words and the hint
 * of an error when v is a table whose content would be lost; on_show(fn): fn(v) returns the text of a row or
 * result.
 */
#ifndef DBRUN_BIND_ROWS_H
#define DBRUN_BIND_ROWS_H

#include "bind/base/runtime.h"

/* The kind of a table. By position: a row of {positional = true}. */
enum rows_kind { ROWS_NONE, ROWS_RESULT, ROWS_ROW, ROWS_ROW_BY_POSITION };

/* Replaces the list of columns ({name=, type=, oid=} for each) on top of the stack by a metatable for rows
 * and results with these columns. */
void bind_rows_meta(lua_State *L);
/* Pushes the metatable of the value at `at`, if it is such a metatable; else pushes nothing and returns
 * false. */
bool bind_rows_push_meta(lua_State *L, int at);
/* True when the value at `at` is a row or a result. */
bool bind_rows_is(lua_State *L, int at);
/* Its kind. Never raises, whatever the script has done to the table. */
enum rows_kind bind_rows_kind(lua_State *L, int at);
/* True for an empty table whose content is in its metatable (__index, __pairs, __len): read without
 * metamethods it would be lost. */
bool bind_rows_is_proxy(lua_State *L, int at);
/* What is wrong with it, and the remedy. */
#define ROWS_PROXY      "an empty table whose content is in its metatable (__index, __pairs or __len)"
#define ROWS_PROXY_HINT "Copy the content into a plain table first."
/* Replaces the metatable on top of the stack by the list of its column names: each once, at its first
 * position. */
void bind_rows_names(lua_State *L);

int bind_rows_open(lua_State *L, struct runtime *rt);

#endif
