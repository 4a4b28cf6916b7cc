#include "bind/pg/growing.h"

#include "bind/base/collector.h"
#include "bind/pg/lookup.h"
#include "pg/shape.h"

#include <limits.h>
#include <string.h>

/* The stack from growing.at on. VALUES: the list of rows, or a list of lists, one for each column; PROBLEM:
 * the error that a value could not be read. */
enum { PLAN, NAMES, META, VALUES, PROBLEM, MADE };

bool pg_growing_may(lua_State *L, const struct pg_statement *st)
{
    const struct pg_cached *e = st->link->m.entry;
    bool takes_rows = st->shape == RESULT_WHOLE || st->shape == RESULT_COLUMNS;
    return takes_rows && !st->stream && !st->simple && !st->describe_only &&
           st->engine->decoder.codecs == LUA_NOREF && !(e && e->medium) && lua_checkstack(L, 3 * MADE);
}

/* ---- the first row ---- */

/* GROW_VALUES, unless something can be known or done only after the statement has ended. */
static enum pg_grow how_to_grow(const struct pg_statement *st)
{
    const struct pg_engine *e = st->engine;
    if (st->guessed && PQbinaryTuples(st->result) && !pg_types_all_binary(e->catalog, st->result))
        return GROW_DROP;
    if (e->no_lookups || (st->entry && st->entry->described && !st->entry->own_types))
        return GROW_VALUES;
    bool unknown = pg_lookup_is_unknown(e, st->result) || pg_shape_has_fields(e->catalog, st->result);
    return unknown ? GROW_COPY : GROW_VALUES;
}

/* The stack of functions run by `call`: 1 = the statement, from FIRST on what was made so far. */
enum { FIRST = 2 };

/* The list has its final fields from the beginning: adding them later would rehash the whole table. */
static void push_list(lua_State *L)
{
    static const char *const fields[] = {"columns", "command", "affected"};
    lua_createtable(L, 0, 3);
    for (int i = 0; i < 3; i++) {
        lua_pushboolean(L, 0);
        lua_setfield(L, -2, fields[i]);
    }
}

/* An empty list for each column. */
static void push_lists(lua_State *L, int n)
{
    lua_createtable(L, n, 0);
    for (int c = 0; c < n; c++) {
        lua_newtable(L);
        lua_rawseti(L, -2, c + 1);
    }
}

/* Leaves plan, names, meta and values. */
static int begin_values(lua_State *L)
{
    struct pg_statement *st = lua_touserdata(L, 1);
    const PGresult *r = st->result;
    int n = PQnfields(r);
    bool by_column = st->shape == RESULT_COLUMNS;
    st->growing.plan = pg_row_plan_push(L, &st->engine->decoder, r, st->form);
    lua_createtable(L, n, 0);
    for (int c = 0; c < n; c++) {
        lua_pushstring(L, PQfname(r, c));
        lua_rawseti(L, -2, c + 1);
    }
    if (by_column)
        lua_pushnil(L);
    else
        pg_statement_push_meta(L, st);
    if (by_column)
        push_lists(L, n);
    else
        push_list(L);
    return VALUES + 1;
}

/* ---- rows ---- */

/* Replaces st->result by the next row; false when no row has arrived. */
static bool next_row(struct pg_statement *st)
{
    struct pg_growing *g = &st->growing;
    if (st->result) {
        PQclear(st->result);
        st->result = NULL;
        g->step = pg_machine_step(&st->link->m, 0);
    }
    if (g->step == PG_ROW)
        st->result = pg_machine_take(&st->link->m);
    return st->result != NULL;
}

static int add_values(lua_State *L)
{
    struct pg_statement *st = lua_touserdata(L, 1);
    struct pg_row_plan *plan = st->growing.plan;
    bool by_column = st->shape == RESULT_COLUMNS;
    luaL_checkstack(L, plan->ncols + 12, "a result with too many columns");
    plan->meta = FIRST + META;
    plan->keys = FIRST + MADE; /* by column: the index of the lists */
    for (int c = 1; c <= plan->ncols; c++)
        lua_rawgeti(L, FIRST + (by_column ? VALUES : NAMES), c);
    do {
        plan->reading.result = st->result;
        st->growing.rows++;
        if (by_column) {
            pg_result_add_to_columns(L, plan, 0, plan->keys, st->growing.rows);
        } else {
            pg_result_push_row(L, plan, 0);
            lua_rawseti(L, FIRST + VALUES, st->growing.rows);
        }
    } while (next_row(st));
    return 0;
}

static void copy_row(struct pg_growing *g, const PGresult *r)
{
    for (int c = 0; c < PQnfields(r); c++) {
        int len = PQgetisnull(r, 0, c) ? -1 : PQgetlength(r, 0, c);
        buf_add(&g->copy, &len, sizeof len);
        if (len > 0)
            buf_add(&g->copy, PQgetvalue(r, 0, c), (size_t)len);
    }
    g->rows++;
}

/* Calls a function with the statement and what was made so far. False: the call failed and left an error. */
static bool call(lua_State *L, struct pg_statement *st, lua_CFunction fn, int results)
{
    lua_pushcfunction(L, fn);
    lua_pushlightuserdata(L, st);
    for (int i = 0; i < MADE; i++)
        lua_pushvalue(L, st->growing.at + i);
    return lua_pcall(L, 1 + MADE, results, 0) == LUA_OK;
}

/* Keeps the error on top of the stack until the statement has ended; drops the rows until then. */
static void fail(lua_State *L, struct pg_statement *st)
{
    lua_replace(L, st->growing.at + PROBLEM);
    st->growing.how = GROW_FAILED;
}

static void begin(lua_State *L, struct pg_statement *st)
{
    struct pg_growing *g = &st->growing;
    st->entry = st->link->m.entry;
    st->guessed = st->link->m.guessed;
    g->how = how_to_grow(st);
    g->at = lua_gettop(L) + 1;
    for (int i = 0; i < MADE; i++)
        lua_pushnil(L);
    if (g->how != GROW_VALUES)
        return;
    if (!call(L, st, begin_values, VALUES + 1)) {
        fail(L, st);
        return;
    }
    for (int i = VALUES; i >= PLAN; i--)
        lua_replace(L, g->at + i);
}

static void take(lua_State *L, struct pg_statement *st)
{
    struct pg_growing *g = &st->growing;
    g->step = PG_ROW;
    if (!next_row(st))
        return;
    if (g->how == GROW_NOT)
        begin(L, st);
    if (g->how == GROW_VALUES && !call(L, st, add_values, 0))
        fail(L, st);
    while (st->result) {
        if (g->how == GROW_COPY)
            copy_row(g, st->result);
        next_row(st);
    }
}

unsigned pg_growing_take(lua_State *L, struct pg_statement *st)
{
    int paused = collector_pause(L);
    take(L, st);
    unsigned now = st->growing.step;
    collector_resume(L, st->engine->rt, paused);
    return now;
}

/* ---- the end ---- */

/* Reads a row of the copy into row number `row` of the result. */
static const char *restore_row(PGresult *r, int row, const char *p, bool *ok)
{
    for (int c = 0; c < PQnfields(r); c++) {
        int len;
        memcpy(&len, p, sizeof len);
        p += sizeof len;
        *ok = *ok && PQsetvalue(r, row, c, len < 0 ? NULL : (char *)p, len);
        p += len > 0 ? len : 0;
    }
    return p;
}

/* Reading row by row costs a fifth more than reading a whole result that fits the processor's caches. */
static void note_size(const struct pg_statement *st)
{
    enum { HUGE = 1 << 20 };
    struct pg_cached *e = st->entry;
    if (!e || (st->growing.how == GROW_NOT && !e->medium))
        return;
    size_t bytes = st->growing.how == GROW_COPY ? st->growing.copy.len : pg_growing_bytes(st);
    e->medium = (st->growing.how == GROW_NOT ? PQresultMemorySize(st->result) : bytes) < HUGE;
}

bool pg_growing_over(struct pg_statement *st)
{
    struct pg_growing *g = &st->growing;
    note_size(st);
    if (g->how != GROW_COPY)
        return true;
    PGresult *r = g->copy.oom || g->rows > INT_MAX ? NULL : PQcopyResult(st->result, PG_COPYRES_ATTRS);
    bool ok = r != NULL;
    const char *p = g->copy.data;
    for (int row = 0; ok && row < (int)g->rows; row++)
        p = restore_row(r, row, p, &ok);
    PQclear(st->result);
    st->result = r;
    buf_free(&g->copy);
    return ok;
}

static int push_columns(lua_State *L, const struct pg_statement *st)
{
    int n = PQnfields(st->result);
    int lists = st->growing.at + VALUES;
    lua_createtable(L, 0, n);
    for (int c = 0; c < n; c++) {
        lua_rawgeti(L, lists, c + 1);
        lua_setfield(L, -2, PQfname(st->result, c));
    }
    lua_pushinteger(L, (lua_Integer)st->growing.rows);
    return 2;
}

int pg_growing_push(lua_State *L, struct pg_statement *st)
{
    int at = st->growing.at;
    if (st->growing.how == GROW_FAILED) {
        pg_statement_clean(st);
        lua_pushvalue(L, at + PROBLEM);
        return lua_error(L);
    }
    if (st->shape == RESULT_COLUMNS)
        return push_columns(L, st);
    pg_result_complete(L, st->result, at + VALUES, at + META);
    lua_pushvalue(L, at + VALUES);
    return 1;
}

/* libpq takes 16 bytes for each value, and a NUL after it. */
size_t pg_growing_bytes(const struct pg_statement *st)
{
    const struct pg_growing *g = &st->growing;
    if (g->how != GROW_VALUES)
        return 0;
    return g->plan->bytes + (size_t)g->rows * (sizeof(void *) + (size_t)g->plan->ncols * 17);
}

void pg_growing_forget(lua_State *L, struct pg_statement *st)
{
    if (st->growing.how == GROW_NOT)
        return;
    lua_settop(L, st->growing.at - 1);
    buf_free(&st->growing.copy);
    st->growing = (struct pg_growing){.how = GROW_NOT};
}
