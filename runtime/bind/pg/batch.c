/*
 * Several statements in one round trip: lease:batch(list) for pipelines, lease:batch_many(sql, rows) for one
 * statement with many parameter lists. Each batch is one implicit transaction (or part of the open
 * transaction).
 */
#include "bind/pg/batch.h"
#include "base/number.h"
#include "bind/base/args.h"
#include "bind/base/error.h"
#include "bind/pg/lease.h"
#include "bind/pg/lookup.h"
#include "bind/pg/params.h"
#include "bind/pg/recovery.h"
#include "bind/pg/result.h"
#include "bind/pg/traced.h"
#include "pg/concurrent.h"
#include "pg/placeholder.h"
#include "pg/scan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPLIES_CLASS "dbrun.pg.replies"

/* Stack during a batch: 1 = lease, 2 = list or SQL, 3 = rows and 4 = plan of :name (batch_many), then the box
 * for the replies and the string "n", both made before the checks, because nothing may allocate after the
 * checks. Above `BASE`: the parameters of the statement that is being added. */
enum { PLAN = 4, REPLIES = 5, N = 6, BASE = 6 };

static int batch_failed(lua_State *L, struct pg_link *link, const char *sql)
{
    struct error e = {0};
    error_move(&e, &link->m.error);
    if (!error_is_set(&e))
        error_set(&e, ERROR_QUERY, "the batch could not be sent");
    if (link->traced)
        pg_traced_work_over(link, &e);
    if (sql)
        pg_error_of_statement(&e, sql);
    pg_error_of_concurrent(&e, sql);
    pg_link_note_read_only(link, &e);
    pg_machine_batch_clear(&link->m);
    return bind_error_raise(L, link->engine->rt, &e);
}

/* Pushes the parameters of `row` from index `from` on, and returns their number. Their number is the row's
 * field `n`, if present, because the last parameter may be nil; else the row's length. */
static int push_params(lua_State *L, struct runtime *rt, int row, int from)
{
    lua_pushvalue(L, N);
    lua_rawget(L, row);
    lua_Integer n = lua_isinteger(L, -1) ? lua_tointeger(L, -1) : (lua_Integer)lua_rawlen(L, row);
    lua_pop(L, 1);
    if (n < from - 1 || n > 65535 + from - 1)
        bind_fail(L, rt, ERROR_USAGE, "a list of %d parameters: PostgreSQL takes at most 65535", (int)n);
    int count = (int)n - from + 1;
    luaL_checkstack(L, count + 8, "too many parameters");
    for (int i = 0; i < count; i++)
        lua_rawgeti(L, row, from + i);
    return count;
}

/* Refuses a COPY, which would break the pipeline and fail the statements sent after it. */
static void check_not_copy(lua_State *L, struct runtime *rt, const char *sql)
{
    struct error e = {0};
    if (!ascii_begins(sql_first_word(sql), "copy", 4))
        return;
    error_set(&e, ERROR_USAGE, PG_NO_COPY " of a pipeline: use copy_in or copy_out");
    error_set_field(&e, ERROR_HINT, PG_NO_COPY_HINT);
    e.outcome = OUTCOME_NOT_SENT;
    bind_error_raise(L, rt, &e);
}

/* Refuses a statement that would end a guarded transaction. */
static void check_guard(lua_State *L, struct runtime *rt, const char *sql)
{
    struct error e = {0};
    struct pg_machine *m = &pg_lease_check(L)->link->m;
    if (pg_machine_is_busy(m) || pg_machine_guard_allows(m, sql))
        return;
    error_move(&e, &m->error);
    bind_error_raise(L, rt, &e);
}

/* Refuses SQL in which the session may find other parameters than the rewriting of :names. */
static void check_names(lua_State *L, struct runtime *rt, const char *sql, int count)
{
    struct error e = {0};
    struct pg_machine *m = &pg_lease_check(L)->link->m;
    if (pg_machine_is_busy(m) || pg_machine_knows_parameters(m, sql, strlen(sql), count))
        return;
    error_move(&e, &m->error);
    bind_error_raise(L, rt, &e);
}

/* Checks every value before anything is sent, because half a pipeline cannot be withdrawn. Between here and
 * the end of add_item Lua allocates nothing and runs no code of the script, so exactly the checked values are
 * sent. True when a value must be encoded by its type first (lua/dbrun/db/values.lua). */
static bool check_all(lua_State *L, struct runtime *rt, int list, int from)
{
    bool unwritten = false;
    lua_Integer n = (lua_Integer)lua_rawlen(L, list);
    for (lua_Integer i = 1; i <= n; i++) {
        const char *sql = from == 1 && i == 1 ? lua_tostring(L, 2) : NULL; /* the same for all lists */
        lua_settop(L, BASE);
        if (lua_rawgeti(L, list, i) != LUA_TTABLE)
            bind_fail(L, rt, ERROR_USAGE, "item %d: expected a list of parameters, got %s", (int)i,
                      luaL_typename(L, -1));
        if (from == 2) {
            lua_rawgeti(L, BASE + 1, 1);
            size_t len = 0;
            sql = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &len) : NULL;
            if (!sql || len > PG_SQL_MAX || memchr(sql, 0, len))
                bind_fail(L, rt, ERROR_USAGE,
                          "item %d: expected the SQL as a string without NUL bytes, shorter than 1 GiB",
                          (int)i);
            check_not_copy(L, rt, sql);
            check_guard(L, rt, sql);
            lua_pop(L, 1);
        }
        int count = push_params(L, rt, BASE + 1, from);
        if (sql)
            check_names(L, rt, sql, count);
        unwritten = pg_params_check(L, rt, BASE + 2, count, PLAN) || unwritten;
    }
    lua_settop(L, BASE);
    return unwritten;
}

/* Adds the statement of item `i`. Cannot raise: check_all has already grown the stack. A statement with many
 * lists is parsed again whenever the declared types (`types`) change from one list to the next. */
static bool add_item(lua_State *L, struct pg_link *link, int list, lua_Integer i, int from, uint64_t *types)
{
    const char *sql = NULL;
    struct pg_encoded enc;
    lua_settop(L, BASE);
    lua_rawgeti(L, list, i);
    int count = push_params(L, link->engine->rt, BASE + 1, from);
    if (from == 2) {
        lua_rawgeti(L, BASE + 1, 1);
        sql = lua_tostring(L, -1); /* the list keeps it alive */
        lua_pop(L, 1);
    }
    if (!pg_params_encode(L, BASE + 2, count, &enc)) {
        error_set(&link->m.error, ERROR_QUERY, "not enough memory for the parameters");
        return false;
    }
    uint64_t now = pg_params_fingerprint(&enc.p);
    if (from == 1 && (i == 1 || *types != now))
        sql = lua_tostring(L, 2);
    *types = now;
    bool ok = pg_machine_batch_add(&link->m, sql, &enc.p);
    pg_params_free(&enc);
    return ok;
}

/* Raises the batch's error, if any, with the number of the failed statement. An error after the last
 * statement is that of the COMMIT, which the machine names. */
static void check_reply(lua_State *L, struct pg_link *link, int list, const char *sql)
{
    struct error *e = &link->m.error;
    if (!error_is_set(e))
        return;
    if (link->m.batch.n >= lua_rawlen(L, list))
        batch_failed(L, link, NULL);
    const char *context = e->field[ERROR_CONTEXT];
    struct buf place = {0};
    buf_addf(&place, "statement %zu of the batch%s%s", link->m.batch.n + 1, context ? "\n" : "",
             context ? context : "");
    error_set_field(e, ERROR_CONTEXT, place.data);
    buf_free(&place);
    batch_failed(L, link, sql);
}

/* Owns the results while they become Lua values: a codec may run statements on the same connection, or close
 * the engine. */
struct replies {
    PGresult **list;
    size_t n;
    struct pg_engine *e;
};

static void replies_clear(struct replies *r)
{
    for (size_t i = 0; i < r->n; i++)
        PQclear(r->list[i]);
    free(r->list);
    if (r->e)
        pg_engine_unref(r->e);
    *r = (struct replies){NULL, 0, NULL};
}

static int replies_gc(lua_State *L)
{
    replies_clear(luaL_checkudata(L, 1, REPLIES_CLASS));
    return 0;
}

void pg_batch_class(lua_State *L, struct runtime *rt)
{
    static const luaL_Reg meta[] = {{"__gc", replies_gc}, {NULL, NULL}};
    bind_class(L, rt, REPLIES_CLASS, meta, NULL);
    lua_pop(L, 1);
}

static void push_replies(lua_State *L)
{
    struct replies *r = lua_newuserdatauv(L, sizeof *r, 0);
    *r = (struct replies){NULL, 0, NULL};
    luaL_setmetatable(L, REPLIES_CLASS);
}

/* Moves the results from the machine into the box. */
static struct replies *take_replies(lua_State *L, struct pg_link *link)
{
    struct replies *r = lua_touserdata(L, REPLIES);
    *r = (struct replies){link->m.batch.list, link->m.batch.n, link->engine};
    pg_engine_ref(r->e);
    link->m.batch = (struct pg_batch){0};
    return r;
}

/* The form that item `i` asks for, in fields beside its SQL and values. */
static unsigned form_of(lua_State *L, lua_Integer i)
{
    static const struct {
        const char *key;
        unsigned bit;
    } forms[] = {{"positional", FORM_POSITIONAL}, {"text", FORM_TEXT}};
    unsigned form = 0;
    int top = lua_gettop(L);
    if (lua_rawgeti(L, 2, i) != LUA_TTABLE) /* a finaliser may have changed the list */
        return lua_settop(L, top), 0;
    for (size_t k = 0; k < sizeof forms / sizeof *forms; k++) {
        lua_pushstring(L, forms[k].key);
        lua_rawget(L, top + 1);
        form |= lua_toboolean(L, -1) ? forms[k].bit : 0;
    }
    lua_settop(L, top);
    return form;
}

static int push_results(lua_State *L, struct replies *replies)
{
    const struct pg_decoder *d = &replies->e->decoder;
    lua_createtable(L, (int)replies->n, 0);
    for (size_t i = 0; i < replies->n; i++) {
        unsigned form = form_of(L, (lua_Integer)i + 1);
        pg_result_meta(L, d, replies->list[i]);
        pg_result_push(L, d, replies->list[i], RESULT_WHOLE, form);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    replies_clear(replies);
    return 1;
}

/* The catalog has answered. */
static int batch_typed_k(lua_State *L, int status, lua_KContext ctx)
{
    struct pg_link *link = (struct pg_link *)ctx;
    struct error e = {0};
    pg_lease_waited(L, link, status, "the catalog did not answer");
    if (pg_lookup_done(link, &e))
        return push_results(L, lua_touserdata(L, REPLIES));
    pg_lookup_tell(link, &e);
    return bind_error_raise(L, link->engine->rt, &e);
}

static bool may_run_again(struct pg_link *link, const char *sql)
{
    return error_is_set(&link->m.error) && pg_batch_may_run_again(link->engine, &link->m, sql);
}

static int run(lua_State *L, int list, int from, bool written, bool unnamed, lua_KFunction k);

static int batch_k(lua_State *L, int status, lua_KContext ctx)
{
    struct pg_link *link = (struct pg_link *)ctx;
    pg_lease_waited(L, link, status, "the batch did not end");
    if (link->traced)
        pg_traced_batch_over(L, link, NULL, lua_rawlen(L, 2));
    const char *sql = NULL;
    if (error_is_set(&link->m.error) && lua_rawgeti(L, 2, (lua_Integer)link->m.batch.n + 1) == LUA_TTABLE &&
        lua_rawgeti(L, -1, 1) == LUA_TSTRING)
        sql = lua_tostring(L, -1);
    if (may_run_again(link, sql))
        return run(L, 2, 2, true, true, batch_k);
    check_reply(L, link, 2, sql);
    lua_settop(L, BASE);
    struct replies *replies = take_replies(L, link);
    if (!pg_lookup_needed(link, replies->list, replies->n))
        return push_results(L, replies);
    if (!pg_lookup_send(link, replies->list, replies->n))
        return batch_typed_k(L, LUA_OK, (lua_KContext)link);
    return pg_link_wait(L, link, link->engine->command_timeout, (lua_KContext)link, batch_typed_k);
}

static int many_k(lua_State *L, int status, lua_KContext ctx)
{
    struct pg_link *link = (struct pg_link *)ctx;
    pg_lease_waited(L, link, status, "the batch did not end");
    if (link->traced)
        pg_traced_batch_over(L, link, lua_tostring(L, 2), lua_rawlen(L, 3));
    check_reply(L, link, 3, lua_tostring(L, 2));
    lua_pushinteger(L, link->m.batch.affected);
    pg_machine_batch_clear(&link->m);
    return 1;
}

/* Breaks the connection, because half a batch cannot be withdrawn. The error keeps the reason why the batch
 * could not be sent. The outcome is unknown: the statements that libpq has already sent may contain a
 * COMMIT. */
static void give_up(struct pg_link *link)
{
    struct error why = {0};
    error_move(&why, &link->m.error);
    pg_machine_break(&link->m);
    if (!error_is_set(&why))
        return;
    if (why.outcome == OUTCOME_NONE)
        why.outcome = OUTCOME_UNKNOWN;
    error_move(&link->m.error, &why);
}

/* Sends nothing, and returns nothing to Lua, when values must first be encoded by their types. `unnamed`: no
 * statement is prepared (machine.h). */
static int run(lua_State *L, int list, int from, bool written, bool unnamed, lua_KFunction k)
{
    lua_settop(L, PLAN);
    push_replies(L);
    lua_pushliteral(L, "n");
    if (from == 1) {
        check_not_copy(L, bind_runtime(L), lua_tostring(L, 2));
        check_guard(L, bind_runtime(L), lua_tostring(L, 2));
    }
    bool unwritten = check_all(L, bind_runtime(L), list, from);
    struct pg_link *link = pg_lease_link(L);
    if (unwritten && written)
        return bind_fail(L, bind_runtime(L), ERROR_USAGE, "a table was left among the parameters");
    if (unwritten || (link->engine->typed_values && !written))
        return 0;
    lua_Integer n = (lua_Integer)lua_rawlen(L, list);
    if (pg_link_is_draining(link) || !pg_machine_batch_begin(&link->m, from == 1, unnamed))
        return batch_failed(L, link, NULL);
    snprintf(link->statement, sizeof link->statement, "batch of %d statements", (int)n);
    bool ok = true;
    const char *sql = from == 1 ? lua_tostring(L, 2) : NULL;
    uint64_t types = 0;
    if (link->traced)
        pg_traced_work(L, link, TRACE_PIPELINE, sql ? NULL : "pipeline", sql, sql ? strlen(sql) : 0);
    for (lua_Integer i = 1; ok && i <= n; i++)
        ok = add_item(L, link, list, i, from, &types);
    lua_settop(L, BASE);
    if (!ok || !pg_machine_batch_end(&link->m)) {
        give_up(link);
        return batch_failed(L, link, sql);
    }
    return pg_link_wait(L, link, link->engine->command_timeout, (lua_KContext)link, k);
}

/* batch({{sql, ...}, ...}, written) -> results in order, or nothing: encode the values first */
int pg_lease_batch(lua_State *L)
{
    bind_self(L, PG_LEASE_CLASS);
    bool written = lua_toboolean(L, 3);
    lua_settop(L, 2);
    bind_check_type(L, PG_LEASE_CLASS, 2, "the list", LUA_TTABLE);
    lua_pushnil(L);
    if (lua_rawlen(L, 2) == 0) {
        lua_newtable(L);
        return 1;
    }
    return run(L, 2, 2, written, false, batch_k);
}

/* batch_many(sql, {{...}, ...}, written, plan) -> sum of the affected rows, or nothing: encode the values
 * first */
int pg_lease_batch_many(lua_State *L)
{
    bind_self(L, PG_LEASE_CLASS);
    bool written = lua_toboolean(L, 4);
    bind_check_type(L, PG_LEASE_CLASS, 2, "the SQL", LUA_TSTRING);
    bind_check_type(L, PG_LEASE_CLASS, 3, "the list", LUA_TTABLE);
    lua_settop(L, 5);
    lua_remove(L, 4);
    if (lua_rawlen(L, 3) == 0) {
        lua_pushinteger(L, 0);
        return 1;
    }
    return run(L, 3, 1, written, true, many_k); /* parsed once for many lists, and often in a transaction */
}
