/* `:name` parameters of statements. */
#ifndef DBRUN_BIND_PG_NAMED_H
#define DBRUN_BIND_PG_NAMED_H

#include "bind/base/runtime.h"

/* Stack: 2 = SQL with :name parameters, 3 = the table of their values. Replaces the SQL by SQL with $n, and
 * the table by the values in order; returns their number. When the SQL has no :name, the table is the value
 * of $1; raises when there is no $1 either. */
int pg_named_expand(lua_State *L, struct runtime *rt);
/* lua_CFunction: named(sql) -> {sql with $n, name, name, ...}, or nothing when it has no :name */
int pg_named_plan(lua_State *L);
/* Pushes the name whose value is $`number` of the SQL at `sql`, if the SQL was rewritten; else pushes
 * nothing. */
bool pg_named_push_name(lua_State *L, int sql, int number);
/* lua_CFunction: place(sql, number) -> "parameter :name ($1)", or "parameter $1" */
int pg_named_place(lua_State *L);

#endif
