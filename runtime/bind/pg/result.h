/* Makes Lua values from results. Runs only in the resumed task, where an error reaches the task's pcall. */
#ifndef DBRUN_BIND_PG_RESULT_H
#define DBRUN_BIND_PG_RESULT_H

#include "bind/base/runtime.h"
#include "bind/pg/decode.h"

/* The part of a result that the caller wants. */
enum pg_result_shape { RESULT_WHOLE, RESULT_ONE, RESULT_VALUE, RESULT_AFFECTED, RESULT_COLUMNS };

/* The form of its rows. FORM_POSITIONAL: lists with db.null for NULL instead of tables by column name.
 * FORM_TEXT: values as the server's texts. Both can be set. */
enum { FORM_POSITIONAL = 1, FORM_TEXT = 2 };
/* The registry key of the function that reads the options before a statement: fn(method, options) ->
 * positional, text (lua/dbrun/db/form.lua). */
#define PG_CHECK_OPTIONS "dbrun.pg.options"

/* Pushes the list of columns: {name=, type=, oid=} for each. */
void pg_result_columns(lua_State *L, const struct pg_decoder *d, const PGresult *r);
/* Pushes the metatable of the result and its rows (bind/data/rows.h). */
void pg_result_meta(lua_State *L, const struct pg_decoder *d, const PGresult *r);
/* True when values of this shape have the metatable. pg_result_push then pops it from the stack. */
static inline bool pg_result_has_meta(enum pg_result_shape shape)
{
    return shape == RESULT_WHOLE || shape == RESULT_ONE;
}
/* Pushes the result in this shape and form, and returns the number of values. RESULT_ONE takes the first row.
 */
int pg_result_push(lua_State *L, const struct pg_decoder *d, const PGresult *r, enum pg_result_shape shape,
                   unsigned form);

/* What the rows of a statement share. While a row is pushed, their metatable is on the stack at `meta`, and
 * the column names from `keys` on, so that each name is interned only once. */
struct pg_row_plan {
    unsigned form;
    int ncols;
    int meta;
    int keys;
    bool binary;
    bool repeats; /* two columns may have the same name: then the last one counts, also when it is NULL */
    size_t bytes; /* of all values so far */
    struct pg_reading reading;
    const struct pg_type **types; /* of the columns; NULL: look the type up for each value */
};

/* Pushes a userdata with a plan for rows of results that have these columns. */
struct pg_row_plan *pg_row_plan_push(lua_State *L, const struct pg_decoder *d, const PGresult *r,
                                     unsigned form);
/* Pushes a row of plan->reading.result. */
void pg_result_push_row(lua_State *L, struct pg_row_plan *plan, int row);
/* Adds a row of plan->reading.result to the lists of the columns, which are on the stack from `lists` on;
 * NULL becomes db.null, so that all lists have the same length. */
void pg_result_add_to_columns(lua_State *L, struct pg_row_plan *plan, int row, int lists, lua_Integer at);
/* Pushes the names of the columns. */
void pg_result_push_names(lua_State *L, const PGresult *r);
/* Adds the other fields of a result to the list of rows at `result`; its metatable is at `meta`. */
void pg_result_complete(lua_State *L, const PGresult *r, int result, int meta);

/* Raises when the result of one() has several rows, and says that the statement has run. */
void pg_result_check_one(lua_State *L, struct runtime *rt, const PGresult *r, bool in_transaction);

#endif
