/* Results as Lua values. Runs in the task, where an error reaches its pcall. */
#ifndef DBRUN_BIND_PG_RESULT_H
#define DBRUN_BIND_PG_RESULT_H

#include "bind/base/runtime.h"
#include "bind/pg/decode.h"

/* What the caller wants to see of a result. */
enum pg_result_shape { RESULT_WHOLE, RESULT_ONE, RESULT_VALUE, RESULT_AFFECTED, RESULT_COLUMNS };

/* Pushes the list of columns: {name=, type=, oid=} for each. */
void pg_result_columns(lua_State *L, const struct pg_decoder *d, const PGresult *r);
/* Pushes the result in its shape (RESULT_WHOLE takes its columns from the top of the stack); raises
 * (one: more than one row). */
int pg_result_push(lua_State *L, struct runtime *rt, const struct pg_decoder *d, const PGresult *r,
                   enum pg_result_shape shape);

/* Pushes a row with the column names that stand on the stack from `keys` on. */
void pg_result_push_row(lua_State *L, const struct pg_decoder *d, const PGresult *r, int keys);

#endif
