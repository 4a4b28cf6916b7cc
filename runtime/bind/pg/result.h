/* Makes Lua values from results. Runs only in the resumed task, where an error reaches the task's pcall. */
#ifndef DBRUN_BIND_PG_RESULT_H
#define DBRUN_BIND_PG_RESULT_H

#include "bind/base/runtime.h"
#include "bind/pg/decode.h"

/* The part of a result that the caller wants. */
enum pg_result_shape { RESULT_WHOLE, RESULT_ONE, RESULT_VALUE, RESULT_AFFECTED, RESULT_COLUMNS };

/* How its rows are made: as lists with db.null for NULL, instead of tables by column name; with the server's
 * own texts as values. Both may be set. */
enum { FORM_POSITIONAL = 1, FORM_TEXT = 2 };
/* The registry's key of the function that reads the options before a statement: fn(method, options) ->
 * positional, text (lua/dbrun/db/form.lua). */
#define PG_CHECK_OPTIONS "dbrun.pg.options"

/* Pushes the list of columns: {name=, type=, oid=} for each. */
void pg_result_columns(lua_State *L, const struct pg_decoder *d, const PGresult *r);
/* Pushes the metatable of the result and its rows (bind/data/rows.h). */
void pg_result_meta(lua_State *L, const struct pg_decoder *d, const PGresult *r);
/* Do values of this shape have the metatable? Then pg_result_push pops it from the stack. */
static inline bool pg_result_has_meta(enum pg_result_shape shape)
{
    return shape == RESULT_WHOLE || shape == RESULT_ONE;
}
/* Pushes the result in this shape and form, and returns the number of values. RESULT_ONE takes the first row.
 */
int pg_result_push(lua_State *L, const struct pg_decoder *d, const PGresult *r, enum pg_result_shape shape,
                   unsigned form);

/* Pushes a row; the metatable is at `meta`, the column names are on the stack from `keys` on. */
void pg_result_push_row(lua_State *L, const struct pg_decoder *d, const PGresult *r, unsigned form, int meta,
                        int keys);

/* Raises when the result of one() has several rows, and says that the statement has run. */
void pg_result_check_one(lua_State *L, struct runtime *rt, const PGresult *r, bool in_transaction);

#endif
