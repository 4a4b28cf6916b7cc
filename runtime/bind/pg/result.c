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

/* What all rows of a result share. Their metatable is on the stack at `meta`, the column names from `keys`
 * on, so that each is interned only once. */
struct row_plan {
    const PGresult *r;
    unsigned form;
    int ncols;
    int meta;
    int keys;
    bool binary;
    struct pg_reading reading;
    bool repeats;                 /* two columns may have one name: then the last one counts, NULL too */
    const struct pg_type **types; /* NULL: look the type up for each value */
    const struct pg_type *inline_types[TYPES_INLINE];
};

/* Whether names repeat is worth finding out for several rows, if they have not too many columns. */
static bool may_repeat(lua_State *L, const struct row_plan *plan)
{
    if (PQntuples(plan->r) < 8 || plan->ncols > 64)
        return true;
    for (int c = 1; c < plan->ncols; c++)
        for (int before = 0; before < c; before++)
            if (lua_rawequal(L, plan->keys + before, plan->keys + c))
                return true;
    return false;
}

static void plan_rows(lua_State *L, const struct pg_decoder *d, struct row_plan *plan, const PGresult *r,
                      unsigned form, int meta)
{
    plan->r = r;
    plan->form = form;
    plan->meta = meta;
    plan->ncols = PQnfields(r);
    plan->binary = plan->ncols > 0 && PQfformat(r, 0) == 1;
    plan->reading = (struct pg_reading){.by = d, .result = r};
    plan->types = plan->inline_types;
    luaL_checkstack(L, plan->ncols + 12, "a result with too many columns");
    if (plan->ncols > TYPES_INLINE)
        plan->types = lua_newuserdatauv(L, (size_t)plan->ncols * sizeof(*plan->types), 0);
    plan->keys = lua_gettop(L) + 1;
    for (int c = 0; c < plan->ncols; c++) {
        plan->types[c] = pg_type_of(d->catalog, PQftype(r, c));
        lua_pushstring(L, PQfname(r, c));
    }
    plan->repeats = may_repeat(L, plan);
}

static const struct pg_type *type_of(const struct row_plan *plan, int c)
{
    return plan->types ? plan->types[c] : pg_type_of(plan->reading.by->catalog, PQftype(plan->r, c));
}

/* Pushes a value that is not NULL. */
static inline void push_value(lua_State *L, struct row_plan *plan, const struct pg_type *t, int row, int c)
{
    const char *p = PQgetvalue(plan->r, row, c);
    size_t len = (size_t)PQgetlength(plan->r, row, c);
    if (plan->form & FORM_TEXT) {
        lua_pushlstring(L, p, len);
        return;
    }
    plan->reading.column = c;
    pg_decode(L, &plan->reading, t, p, len, plan->binary);
}

static void push_list(lua_State *L, struct row_plan *plan, int row)
{
    lua_createtable(L, plan->ncols, 0);
    for (int c = 0; c < plan->ncols; c++) {
        if (PQgetisnull(plan->r, row, c))
            lua_pushlightuserdata(L, NULL);
        else
            push_value(L, plan, type_of(plan, c), row, c);
        lua_rawseti(L, -2, c + 1);
    }
}

static void push_by_name(lua_State *L, struct row_plan *plan, int row)
{
    lua_createtable(L, 0, plan->ncols);
    for (int c = 0; c < plan->ncols; c++) {
        if (PQgetisnull(plan->r, row, c)) {
            if (plan->repeats && c > 0) {
                lua_pushvalue(L, plan->keys + c);
                lua_pushnil(L);
                lua_rawset(L, -3);
            }
            continue;
        }
        lua_pushvalue(L, plan->keys + c);
        push_value(L, plan, type_of(plan, c), row, c);
        lua_rawset(L, -3);
    }
}

static void push_row(lua_State *L, struct row_plan *plan, int row)
{
    if (plan->form & FORM_POSITIONAL)
        push_list(L, plan, row);
    else
        push_by_name(L, plan, row);
    lua_pushvalue(L, plan->meta);
    lua_setmetatable(L, -2);
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

/* The metatable is at the top of the stack. */
static void push_result(lua_State *L, const struct pg_decoder *d, const PGresult *r, unsigned form)
{
    struct row_plan plan;
    int rows = PQntuples(r);
    int meta = lua_gettop(L);
    int result = meta + 1;
    lua_createtable(L, rows, 3);
    lua_getfield(L, meta, "columns");
    lua_setfield(L, result, "columns");
    push_command(L, r);
    lua_setfield(L, result, "command");
    lua_pushinteger(L, affected(r));
    lua_setfield(L, result, "affected");
    if (rows > 0) {
        plan_rows(L, d, &plan, r, form, meta);
        for (int i = 0; i < rows; i++) {
            push_row(L, &plan, i);
            lua_rawseti(L, result, i + 1);
        }
    }
    lua_settop(L, result);
    lua_pushvalue(L, meta);
    lua_setmetatable(L, result);
}

void pg_result_push_row(lua_State *L, const struct pg_decoder *d, const PGresult *r, unsigned form, int meta,
                        int keys)
{
    struct row_plan plan = {.r = r,
                            .form = form,
                            .ncols = PQnfields(r),
                            .meta = meta,
                            .keys = keys,
                            .reading = {.by = d, .result = r},
                            .repeats = true};
    plan.binary = plan.ncols > 0 && PQfformat(r, 0) == 1;
    push_row(L, &plan, 0);
}

/* Pushes {column = {values}, ...} and the number of rows. NULL is db.null, so that every list has that
 * length. */
static int push_by_column(lua_State *L, const struct pg_decoder *d, const PGresult *r, unsigned form)
{
    int rows = PQntuples(r);
    int ncols = PQnfields(r);
    struct row_plan plan = {.r = r, .form = form, .reading = {.by = d, .result = r}};
    plan.binary = ncols > 0 && PQfformat(r, 0) == 1;
    lua_createtable(L, 0, ncols);
    for (int c = 0; c < ncols; c++) {
        const struct pg_type *t = type_of(&plan, c);
        lua_createtable(L, rows, 0);
        for (int i = 0; i < rows; i++) {
            if (PQgetisnull(r, i, c))
                lua_pushlightuserdata(L, NULL);
            else
                push_value(L, &plan, t, i, c);
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
    struct row_plan plan;
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
            plan_rows(L, d, &plan, r, form, top);
            push_row(L, &plan, 0);
        } else {
            lua_pushnil(L);
        }
        lua_replace(L, top);
        lua_settop(L, top);
        return 1;
    case RESULT_VALUE:
        if (rows == 0 || PQnfields(r) == 0 || PQgetisnull(r, 0, 0))
            break;
        plan.r = r; /* what push_value reads: all of the plan is half a kilobyte to clear */
        plan.form = form;
        plan.binary = PQfformat(r, 0) == 1;
        plan.reading = (struct pg_reading){.by = d, .result = r};
        plan.types = NULL;
        push_value(L, &plan, type_of(&plan, 0), 0, 0);
        return 1;
    }
    lua_pushnil(L);
    return 1;
}
