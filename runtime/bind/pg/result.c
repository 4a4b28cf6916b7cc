/* Makes Lua values from results. Runs only in the resumed task, where an error reaches the task's pcall. */
#include "bind/pg/result.h"
#include "base/number.h"
#include "bind/base/error.h"
#include "bind/pg/decode.h"

#include <stdlib.h>
#include <string.h>

/* ---- rows ---- */

enum { TYPES_INLINE = 64 };

/* What all rows of a result share. The column names are on the stack from `keys` on, so that each is interned
 * only once. */
struct row_plan {
    const PGresult *r;
    int ncols;
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

static void plan_rows(lua_State *L, const struct pg_decoder *d, struct row_plan *plan, const PGresult *r)
{
    plan->r = r;
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

static void push_row(lua_State *L, struct row_plan *plan, int row)
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
        const struct pg_type *t =
            plan->types ? plan->types[c] : pg_type_of(plan->reading.by->catalog, PQftype(plan->r, c));
        plan->reading.column = c;
        pg_decode(L, &plan->reading, t, PQgetvalue(plan->r, row, c), (size_t)PQgetlength(plan->r, row, c),
                  plan->binary);
        lua_rawset(L, -3);
    }
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

/* Pops the list of columns from the stack, and pushes the result. */
static int push_result(lua_State *L, const struct pg_decoder *d, const PGresult *r)
{
    struct row_plan plan;
    int rows = PQntuples(r);
    lua_createtable(L, rows, 3);
    lua_insert(L, -2);
    int result = lua_gettop(L) - 1;
    lua_setfield(L, result, "columns");
    push_command(L, r);
    lua_setfield(L, result, "command");
    lua_pushinteger(L, affected(r));
    lua_setfield(L, result, "affected");
    if (rows > 0) {
        plan_rows(L, d, &plan, r);
        for (int i = 0; i < rows; i++) {
            push_row(L, &plan, i);
            lua_rawseti(L, result, i + 1);
        }
    }
    lua_settop(L, result);
    return 1;
}

void pg_result_push_row(lua_State *L, const struct pg_decoder *d, const PGresult *r, int keys)
{
    struct row_plan plan = {
        .r = r, .ncols = PQnfields(r), .keys = keys, .reading = {.by = d, .result = r}, .repeats = true};
    plan.binary = plan.ncols > 0 && PQfformat(r, 0) == 1;
    push_row(L, &plan, 0);
}

/* Pushes {column = {values}, ...} and the number of rows. NULL is db.null, so that every list has that
 * length. */
static int push_by_column(lua_State *L, const struct pg_decoder *d, const PGresult *r)
{
    int rows = PQntuples(r);
    int ncols = PQnfields(r);
    bool binary = ncols > 0 && PQfformat(r, 0) == 1;
    struct pg_reading reading = {.by = d, .result = r};
    lua_createtable(L, 0, ncols);
    for (int c = 0; c < ncols; c++) {
        reading.column = c;
        const struct pg_type *t = pg_type_of(d->catalog, PQftype(r, c));
        lua_createtable(L, rows, 0);
        for (int i = 0; i < rows; i++) {
            if (PQgetisnull(r, i, c))
                lua_pushlightuserdata(L, NULL);
            else
                pg_decode(L, &reading, t, PQgetvalue(r, i, c), (size_t)PQgetlength(r, i, c), binary);
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

int pg_result_push(lua_State *L, const struct pg_decoder *d, const PGresult *r, enum pg_result_shape shape)
{
    struct row_plan plan;
    int rows = PQntuples(r);
    switch (shape) {
    case RESULT_WHOLE:
        return push_result(L, d, r);
    case RESULT_COLUMNS:
        return push_by_column(L, d, r);
    case RESULT_AFFECTED:
        lua_pushinteger(L, affected(r));
        return 1;
    case RESULT_ONE:
        if (rows == 0)
            break;
        plan_rows(L, d, &plan, r);
        push_row(L, &plan, 0);
        return 1;
    case RESULT_VALUE:
        if (rows == 0 || PQnfields(r) == 0 || PQgetisnull(r, 0, 0))
            break;
        pg_decode(L, &(struct pg_reading){.by = d, .result = r}, pg_type_of(d->catalog, PQftype(r, 0)),
                  PQgetvalue(r, 0, 0), (size_t)PQgetlength(r, 0, 0), PQfformat(r, 0) == 1);
        return 1;
    }
    lua_pushnil(L);
    return 1;
}
