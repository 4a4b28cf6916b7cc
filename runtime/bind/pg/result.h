/* Makes Lua values from results. Runs only in the resumed task, where an error reaches the task's pcall. */
#ifndef DBRUN_BIND_PG_RESULT_H
#define DBRUN_BIND_PG_RESULT_H

#include "bind/base/runtime.h"
#include "bind/pg/decode.h"

/* The part of a result that the caller wants. */
enum pg_result_shape { RESULT_WHOLE, RESULT_ONE, RESULT_VALUE, RESULT_AFFECTED, RESULT_COLUMNS };

/* Pushes the list of columns: {name=, type=, oid=} for each. */
void pg_result_columns(lua_State *L, const struct pg_decoder *d, const PGresult *r);
/* Pushes the result in this shape, and returns the number of values. RESULT_WHOLE pops the list of columns
 * from the stack; RESULT_ONE takes the first row. */
int pg_result_push(lua_State *L, const struct pg_decoder *d, const PGresult *r, enum pg_result_shape shape);

/* Pushes a row; the column names are on the stack from `keys` on. */
void pg_result_push_row(lua_State *L, const struct pg_decoder *d, const PGresult *r, int keys);

/* Raises when the result of one() has several rows, and says that the statement has run. */
void pg_result_check_one(lua_State *L, struct runtime *rt, const PGresult *r, bool in_transaction);

#endif
