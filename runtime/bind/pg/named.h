/* `:name` parameters of statements. */
#ifndef DBRUN_BIND_PG_NAMED_H
#define DBRUN_BIND_PG_NAMED_H

#include "bind/base/runtime.h"

/* Stack: 2 = SQL with :name parameters, 3 = the table of their values. Replaces the SQL by its plan (see
 * `named`), and the table by the values in order; returns their number. When the SQL has no :name, it stays,
 * and the table is the value of $1; raises when there is no $1 either. */
int pg_named_expand(lua_State *L, struct runtime *rt);
/* Replaces the plan at 2, if it is one, by its SQL. */
void pg_named_settle(lua_State *L);
/* lua_CFunction: named(sql) -> {sql with $n, name, name, ...}, or nothing when it has no :name */
int pg_named_plan(lua_State *L);
/* Pushes the name whose value is $`number`, if a plan is at `plan`; else pushes nothing. Another text can
 * have been rewritten to the same SQL: so the SQL alone does not tell the name. */
bool pg_named_push_name(lua_State *L, int plan, int number);

#endif
