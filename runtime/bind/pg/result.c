/* Makes Lua values from results. Runs only in the resumed task, where an error reaches the task's pcall. */
#include "bind/pg/result.h"
#include "base/number.h"
#include "bind/base/error.h"
#include "bind/data/rows.h"
#include "bind/pg/decode.h"

#include <stdlib.h>
#include <string.h>

/* ---- rows ---- */

enum { TYPES_INLINE = 64 };

/* True when column names repeat, or when there are too many columns to compare. */
static bool may_repeat(const PGresult *r, int ncols)
{
    if (ncols > 64)
        return true;
    for (int c = 1; c < ncols; c++)
        for (int before = 0; before < c; before++)
            if (strcmp(PQfname(r, before), PQfname(r, c)) == 0)
                return true;
    return false;
}

/* `types` has room for the columns. */
static void plan_rows(const struct pg_decoder *d, struct pg_row_plan *plan, const PGresult *r, unsigned form,
                      const struct pg_type **types)
{
    int n = PQnfields(r);
    *plan = (struct pg_row_plan){.form = form, .ncols = n, .types = types};
    plan->binary = n > 0 && PQfformat(r, 0) == 1;
    plan->repeats = true;
    plan->reading = (struct pg_reading){.by = d, .result = r};
    for (int c = 0; c < n; c++)
        types[c] = pg_type_of(d->catalog, PQftype(r, c));
}

struct pg_row_plan *pg_row_plan_push(lua_State *L, const struct pg_decoder *d, const PGresult *r,
                                     unsigned form)
{
    struct pg_row_plan *plan;
    size_t n = (size_t)PQnfields(r);
    plan = lua_newuserdatauv(L, sizeof *plan + n * sizeof *plan->types, 0);
    plan_rows(d, plan, r, form, (const struct pg_type **)(plan + 1));
    plan->repeats = may_repeat(r, plan->ncols);
    return plan;
}

static const struct pg_type *type_of(const struct pg_row_plan *plan, int c)
{
    const struct pg_reading *d = &plan->reading;
    return plan->types ? plan->types[c] : pg_type_of(d->by->catalog, PQftype(d->result, c));
}

/* Pushes a value that is not NULL. */
static inline void push_value(lua_State *L, struct pg_row_plan *plan, const struct pg_type *t, int row, int c,
                              size_t len)
{
    const char *p = PQgetvalue(plan->reading.result, row, c);
    plan->bytes += len;
    if (plan->form & FORM_TEXT) {
        lua_pushlstring(L, p, len);
        return;
    }
    plan->reading.column = c;
    pg_decode(L, &plan->reading, t, p, len, plan->binary);
}

/* True when the value, of this length, is NULL. Asks libpq only for empty values. */
static inline bool is_null(const struct pg_row_plan *plan, int row, int c, size_t len)
{
    return len == 0 && PQgetisnull(plan->reading.result, row, c);
}

/* The value of a column, or db.null. */
static void push_column(lua_State *L, struct pg_row_plan *plan, int row, int c)
{
    size_t len = (size_t)PQgetlength(plan->reading.result, row, c);
    if (is_null(plan, row, c, len))
        lua_pushlightuserdata(L, NULL);
    else
        push_value(L, plan, type_of(plan, c), row, c, len);
    pg_decode_fill(L, &plan->reading);
}

static void push_list(lua_State *L, struct pg_row_plan *plan, int row)
{
    lua_createtable(L, plan->ncols, 0);
    for (int c = 0; c < plan->ncols; c++) {
        push_column(L, plan, row, c);
        lua_rawseti(L, -2, c + 1);
    }
}

static void push_by_name(lua_State *L, struct pg_row_plan *plan, int row)
{
    lua_createtable(L, 0, plan->ncols);
    for (int c = 0; c < plan->ncols; c++) {
        size_t len = (size_t)PQgetlength(plan->reading.result, row, c);
        bool null = is_null(plan, row, c, len);
        if (null && (!plan->repeats || c == 0))
            continue;
        lua_pushvalue(L, plan->keys + c);
        if (null)
            lua_pushnil(L);
        else
            push_value(L, plan, type_of(plan, c), row, c, len);
        lua_rawset(L, -3);
    }
}

void pg_result_push_row(lua_State *L, struct pg_row_plan *plan, int row)
{
    if (plan->form & FORM_POSITIONAL)
        push_list(L, plan, row);
    else
        push_by_name(L, plan, row);
    lua_pushvalue(L, plan->meta);
    lua_setmetatable(L, -2);
}

void pg_result_push_names(lua_State *L, const PGresult *r)
{
    int n = PQnfields(r);
    luaL_checkstack(L, n + 12, "a result with too many columns");
    for (int c = 0; c < n; c++)
        lua_pushstring(L, PQfname(r, c));
}

/* Makes a plan on the C stack, for rows that are pushed before the caller returns. Pushes the names, and a
 * userdata when the types do not fit in `few`. */
static void plan_at_once(lua_State *L, const struct pg_decoder *d, struct pg_row_plan *plan,
                         const PGresult *r, unsigned form, const struct pg_type *few[TYPES_INLINE])
{
    int n = PQnfields(r);
    if (n > TYPES_INLINE)
        few = lua_newuserdatauv(L, (size_t)n * sizeof *few, 0);
    plan_rows(d, plan, r, form, few);
    plan->repeats = PQntuples(r) < 8 || may_repeat(r, n);
    plan->keys = lua_gettop(L) + 1;
    pg_result_push_names(L, r);
}

void pg_result_columns(lua_State *L, const struct pg_decoder *d, const PGresult *r)
{
    int n = PQnfields(r);
    lua_createtable(L, n, 0);
    for (int c = 0; c < n; c++) {
        const struct pg_type *t = pg_type_of(d->catalog, PQftype(r, c));
        lua_createtable(L, 0, 3);
        lua_pushstring(L, PQfname(r, c));
        lua_setfield(L, -2, "name");
        if (t->name[0]) {
            lua_pushstring(L, t->name);
            lua_setfield(L, -2, "type");
        }
        lua_pushinteger(L, PQftype(r, c));
        lua_setfield(L, -2, "oid");
        lua_rawseti(L, -2, c + 1);
    }
}

void pg_result_meta(lua_State *L, const struct pg_decoder *d, const PGresult *r)
{
    pg_result_columns(L, d, r);
    bind_rows_meta(L);
}

/* "INSERT 0 5" -> "INSERT", "CREATE TABLE" -> "CREATE TABLE". */
static void push_command(lua_State *L, const PGresult *r)
{
    const char *status = PQcmdStatus((PGresult *)r);
    size_t len = strlen(status);
    while (len > 0 && ((status[len - 1] >= '0' && status[len - 1] <= '9') || status[len - 1] == ' '))
        len--;
    lua_pushlstring(L, status, len);
}

static lua_Integer affected(const PGresult *r)
{
    const char *n = PQcmdTuples((PGresult *)r);
    return n[0] ? (lua_Integer)number_int(n) : 0;
}

void pg_result_complete(lua_State *L, const PGresult *r, int result, int meta)
{
    lua_getfield(L, meta, "columns");
    lua_setfield(L, result, "columns");
    push_command(L, r);
    lua_setfield(L, result, "command");
    lua_pushinteger(L, affected(r));
    lua_setfield(L, result, "affected");
    lua_pushvalue(L, meta);
    lua_setmetatable(L, result);
}

/* The metatable is on top of the stack. */
static void push_result(lua_State *L, const struct pg_decoder *d, const PGresult *r, unsigned form)
{
    struct pg_row_plan plan;
    const struct pg_type *few[TYPES_INLINE];
    int rows = PQntuples(r);
    int meta = lua_gettop(L);
    int result = meta + 1;
    lua_createtable(L, rows, 3);
    if (rows > 0) {
        plan_at_once(L, d, &plan, r, form, few);
        plan.meta = meta;
        for (int i = 0; i < rows; i++) {
            pg_result_push_row(L, &plan, i);
            lua_rawseti(L, result, i + 1);
        }
    }
    lua_settop(L, result);
    pg_result_complete(L, r, result, meta);
}

void pg_result_add_to_columns(lua_State *L, struct pg_row_plan *plan, int row, int lists, lua_Integer at)
{
    for (int c = 0; c < plan->ncols; c++) {
        push_column(L, plan, row, c);
        lua_rawseti(L, lists + c, at);
    }
}

/* Pushes {column = {values}, ...} and the number of rows. NULL becomes db.null, so that every list has this
 * length. */
static int push_by_column(lua_State *L, const struct pg_decoder *d, const PGresult *r, unsigned form)
{
    int rows = PQntuples(r);
    int ncols = PQnfields(r);
    struct pg_row_plan plan = {.form = form, .reading = {.by = d, .result = r}};
    plan.binary = ncols > 0 && PQfformat(r, 0) == 1;
    lua_createtable(L, 0, ncols);
    for (int c = 0; c < ncols; c++) {
        const struct pg_type *t = type_of(&plan, c);
        lua_createtable(L, rows, 0);
        for (int i = 0; i < rows; i++) {
            size_t len = (size_t)PQgetlength(r, i, c);
            if (is_null(&plan, i, c, len))
                lua_pushlightuserdata(L, NULL);
            else
                push_value(L, &plan, t, i, c, len);
            pg_decode_fill(L, &plan.reading);
            lua_rawseti(L, -2, i + 1);
        }
        lua_setfield(L, -2, PQfname(r, c));
    }
    lua_pushinteger(L, rows);
    return 2;
}

void pg_result_check_one(lua_State *L, struct runtime *rt, const PGresult *r, bool in_transaction)
{
    struct error e = {0};
    if (PQntuples(r) <= 1)
        return;
    error_set(&e, ERROR_USAGE, "one: the statement returned %d rows: use query for several", PQntuples(r));
    error_set_field(&e, ERROR_DETAIL,
                    in_transaction ? "The statement has run: what it changed is part of the open transaction."
                                   : "The statement has run: what it changed is committed.");
    if (strncmp(PQcmdStatus((PGresult *)r), "SELECT", 6) != 0)
        e.outcome = OUTCOME_UNKNOWN;
    bind_error_raise(L, rt, &e);
}

int pg_result_push(lua_State *L, const struct pg_decoder *d, const PGresult *r, enum pg_result_shape shape,
                   unsigned form)
{
    struct pg_row_plan plan;
    const struct pg_type *few[TYPES_INLINE];
    int rows = PQntuples(r);
    int top = lua_gettop(L);
    switch (shape) {
    case RESULT_WHOLE:
        push_result(L, d, r, form);
        lua_replace(L, top);
        return 1;
    case RESULT_COLUMNS:
        return push_by_column(L, d, r, form);
    case RESULT_AFFECTED:
        lua_pushinteger(L, affected(r));
        return 1;
    case RESULT_ONE:
        if (rows > 0) {
            plan_at_once(L, d, &plan, r, form, few);
            plan.meta = top;
            pg_result_push_row(L, &plan, 0);
        } else {
            lua_pushnil(L);
        }
        lua_replace(L, top);
        lua_settop(L, top);
        return 1;
    case RESULT_VALUE:
        if (rows == 0 || PQnfields(r) == 0 || PQgetisnull(r, 0, 0))
            break;
        plan = (struct pg_row_plan){.form = form, .reading = {.by = d, .result = r}};
        plan.binary = PQfformat(r, 0) == 1;
        push_value(L, &plan, type_of(&plan, 0), 0, 0, (size_t)PQgetlength(r, 0, 0));
        return 1;
    }
    lua_pushnil(L);
    return 1;
}
