/* Engines: their settings, pools and methods; the module core.pg. */
#include "bind/pg/module.h"
#include "base/deadline.h"
#include "bind/base/args.h"
#include "bind/base/error.h"
#include "bind/base/fields.h"
#include "bind/base/pool_stats.h"
#include "bind/data/json.h"
#include "bind/pg/batch.h"
#include "bind/pg/connect.h"
#include "bind/pg/copy.h"
#include "bind/pg/lease_methods.h"
#include "bind/pg/listen.h"
#include "bind/pg/mux.h"
#include "bind/pg/named.h"
#include "bind/pg/notices.h"
#include "bind/pg/param_types.h"
#include "bind/pg/params.h"
#include "bind/pg/query.h"
#include "bind/pg/statement.h"
#include "bind/pg/stream.h"
#include "bind/pg/traced.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- life ---- */

/* Called when the last reference is dropped: frees what this file has made. */
static void last(struct pg_engine *e)
{
    luaL_unref(e->rt->L, LUA_REGISTRYINDEX, e->values); /* leases still use it after the engine was closed */
    pg_mux_free(e->mux);
}

/* The pool holds its own reference until its last connection is closed: a connection that comes back after
 * the engine was collected drops its reference while the pool still uses the engine. */
static void pool_drained(struct pool *p)
{
    pg_engine_unref(pool_data(p));
}

/* Closes the pool. Connections in use close when they come back; the struct lives until then. */
static void engine_close(struct pg_engine_box *box)
{
    struct pg_engine *e = box->e;
    if (!e)
        return;
    box->e = NULL;
    e->closed = true;
    luaL_unref(e->rt->L, LUA_REGISTRYINDEX, e->decoder.codecs);
    luaL_unref(e->rt->L, LUA_REGISTRYINDEX, e->on_connect);
    luaL_unref(e->rt->L, LUA_REGISTRYINDEX, e->on_notice);
    e->decoder.codecs = e->on_connect = e->on_notice = LUA_NOREF;
    pg_notices_clear(&e->notices);
    if (e->pool) {
        pool_close(e->pool, mono_now());
        connector_forget(&e->connector);
    }
    pg_engine_unref(e);
}

static void give_up(struct pool_slot *slot, void *data)
{
    (void)data;
    if (slot->state == SLOT_PINGING || slot->state == SLOT_RESETTING)
        pg_link_give_up(slot->conn);
    else if (slot->state == SLOT_LEASED)
        pool_discard(slot->pool, slot, mono_now());
}

void bind_pg_shutdown(struct runtime *rt)
{
    struct pg_engine *next;
    for (struct pg_engine *e = rt->engines; e; e = next) {
        pg_engine_ref(e);
        if (e->pool) {
            pool_close(e->pool, mono_now());
            connector_forget(&e->connector);
            pool_each(e->pool, give_up, NULL);
        }
        next = e->next;
        pg_engine_unref(e);
    }
}

static int engine_gc(lua_State *L)
{
    engine_close(bind_self(L, PG_ENGINE_CLASS));
    return 0;
}

static const struct pool_ops pool_ops = {.open = pg_connect_slot,
                                         .close = pg_link_close,
                                         .check = pg_link_check,
                                         .ping = pg_link_ping,
                                         .judge = pg_link_judge,
                                         .reset = pg_link_reset,
                                         .drained = pool_drained};

/* ---- settings ---- */

static char *copy_of(lua_State *L, int at)
{
    const char *s = luaL_checkstring(L, at);
    char *copy = strdup(s);
    if (!copy)
        luaL_error(L, "not enough memory");
    return copy;
}

static bool is_secret(const char *keyword)
{
    return strcmp(keyword, "password") == 0 || strcmp(keyword, "sslpassword") == 0;
}

/* params = {{keyword, value}, ...}: the connection parameters for libpq. The engine already owns `info`. */
static void read_params(lua_State *L, struct pg_conninfo *info, struct secrets *secrets)
{
    lua_getfield(L, 1, "params");
    luaL_checktype(L, -1, LUA_TTABLE);
    size_t n = lua_rawlen(L, -1);
    info->keywords = calloc(n + 1, sizeof *info->keywords);
    info->values = calloc(n + 1, sizeof *info->values);
    if (!info->keywords || !info->values)
        luaL_error(L, "not enough memory");
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, -1, (lua_Integer)i + 1);
        lua_rawgeti(L, -1, 2);
        lua_rawgeti(L, -2, 1);
        info->values[i] = copy_of(L, -2);
        info->keywords[i] = copy_of(L, -1);
        if (is_secret(info->keywords[i]) && !secrets_add(secrets, info->values[i], strlen(info->values[i])))
            luaL_error(L, "not enough memory");
        lua_pop(L, 3);
    }
    lua_pop(L, 1);
}

/* asked = {sql, sql} | nil: the queries that check whether the requested settings are in effect */
static void read_asked(lua_State *L, struct pg_conninfo *info)
{
    if (lua_getfield(L, 1, "asked") == LUA_TTABLE) {
        for (int i = 0; i < 2; i++) {
            lua_rawgeti(L, -1, i + 1);
            info->asked[i] = copy_of(L, -1);
            lua_pop(L, 1);
        }
    }
    lua_pop(L, 1);
}

/* With a pre_ping_idle below this many seconds, idle time is measured with the exact clock. */
#define EXACT_IDLE 0.1

static void read_settings(lua_State *L, struct pg_engine *e)
{
    static const char *const resets[] = {"rollback", "full", "none", NULL};
    lua_getfield(L, 1, "reset");
    e->reset = (enum pg_reset)luaL_checkoption(L, -1, "rollback", resets);
    lua_pop(L, 1);
    e->sync = field_boolean(L, 1, "sync", false);
    e->timeout = field_number(L, 1, "timeout", 30);
    e->command_timeout = field_number(L, 1, "command_timeout", 0);
    e->pre_ping = field_boolean(L, 1, "pre_ping", true);
    e->pre_ping_idle = field_number(L, 1, "pre_ping_idle", 0.5);
    e->exact = e->sync || (e->pre_ping && e->pre_ping_idle < EXACT_IDLE);
    e->cache_limit = (uint32_t)field_number(L, 1, "statement_cache", 100);
    double age = field_number(L, 1, "statement_cache_age", 1);
    e->cache_age = age > 0 ? duration_ns(age) + 1 : 0; /* an age of less than 1 ns is not "no limit" */
    e->decoder.numeric_float = field_boolean(L, 1, "numeric_float", false);
    e->decoder.exact_json = field_boolean(L, 1, "exact_json", false);
    e->decoder.epoch = field_boolean(L, 1, "epoch", false);
    e->typed_values = e->decoder.epoch;
    e->large_result = (size_t)field_number(L, 1, "large_result", 0);
    e->on_connect = field_function(L, 1, "on_connect");
    e->on_notice = field_function(L, 1, "on_notice");
    const char *target = field_text(L, 1, "target");
    if (!target)
        luaL_error(L, "pg.engine: target is missing");
    e->info->target = strdup(target);
    if (!e->info->target)
        luaL_error(L, "not enough memory");
    const char *advice = field_text(L, 1, "advice");
    if (advice && !(e->info->advice = strdup(advice)))
        luaL_error(L, "not enough memory");
}

/* engine{params=, target=, advice=, sync=, size=, overflow=, timeout=, connect_timeout=, command_timeout=,
 * recycle=, pre_ping=, pre_ping_idle=, reset=, statement_cache=, statement_cache_age=, pipeline=, ...} ->
 * engine. lua/dbrun/db.lua has checked the values. */
static int engine_new(lua_State *L)
{
    struct runtime *rt = bind_runtime(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    struct pg_engine_box *box = lua_newuserdatauv(L, sizeof *box, 1);
    box->e = NULL;
    luaL_setmetatable(L, PG_ENGINE_CLASS);
    struct pg_engine *e = calloc(1, sizeof *e);
    if (!e)
        return luaL_error(L, "not enough memory");
    e->rt = rt;
    e->refs = 1;
    e->last = last;
    e->next = rt->engines;
    if (e->next)
        e->next->prev = e;
    rt->engines = e;
    e->decoder.codecs = e->on_connect = e->on_notice = e->values = LUA_NOREF;
    box->e = e;
    e->catalog = pg_catalog_new();
    e->decoder.catalog = e->catalog;
    if (!e->catalog)
        return luaL_error(L, "not enough memory");
    e->info = calloc(1, sizeof *e->info);
    if (!e->info)
        return luaL_error(L, "not enough memory");
    e->info->refs = 1;
    read_settings(L, e);
    read_params(L, e->info, rt->secrets);
    pg_values_make(L, e);
    read_asked(L, e->info);
    e->connector = (struct connector){.rt = rt,
                                      .ops = &pg_connector_ops,
                                      .target = e->info,
                                      .connect_timeout = field_number(L, 1, "connect_timeout", 10),
                                      .blocking = e->sync};
    struct pool_config config = {.size = (uint32_t)field_number(L, 1, "size", 20),
                                 .overflow = (int32_t)field_number(L, 1, "overflow", 10),
                                 .recycle = duration_ns(field_number(L, 1, "recycle", 0)),
                                 .seed = mono_now(),
                                 .ops = &pool_ops,
                                 .data = e};
    e->pool = pool_new(&config);
    if (!e->pool)
        return luaL_error(L, "not enough memory");
    pg_engine_ref(e);
    int pipeline = (int)field_number(L, 1, "pipeline", 0);
    if (pipeline > 0) {
        e->mux = pg_mux_new(e, pipeline);
        if (!e->mux)
            return luaL_error(L, "not enough memory");
    }
    return 1;
}

/* ---- methods ---- */

static int engine_query(lua_State *L)
{
    pg_engine_check(L);
    return pg_query(L, NULL, RESULT_WHOLE);
}

static int engine_one(lua_State *L)
{
    pg_engine_check(L);
    return pg_query(L, NULL, RESULT_ONE);
}

static int engine_value(lua_State *L)
{
    pg_engine_check(L);
    return pg_query(L, NULL, RESULT_VALUE);
}

static int engine_columns(lua_State *L)
{
    pg_engine_check(L);
    return pg_query(L, NULL, RESULT_COLUMNS);
}

static int engine_rows(lua_State *L)
{
    pg_engine_check(L);
    return pg_rows(L, NULL);
}

static int engine_exec(lua_State *L)
{
    pg_engine_check(L);
    return pg_script(L, NULL);
}

static int engine_acquire(lua_State *L)
{
    pg_engine_check(L);
    bind_check_none(L, PG_ENGINE_CLASS);
    return pg_acquire(L);
}

/* stats() -> the figures of pool_push_stats */
static int engine_stats(lua_State *L)
{
    pool_push_stats(L, pg_engine_check(L)->pool);
    return 1;
}

static int engine_invalidate(lua_State *L)
{
    pool_invalidate(pg_engine_check(L)->pool, mono_now());
    return 0;
}

static int engine_dispose(lua_State *L)
{
    pool_dispose(pg_engine_check(L)->pool, mono_now());
    return 0;
}

/* close(): waiters get an error; connections in use close when they come back. */
static int engine_close_method(lua_State *L)
{
    engine_close(bind_self(L, PG_ENGINE_CLASS));
    return 0;
}

static void force_text(struct pool_slot *slot, void *data)
{
    struct pg_link *link = slot->conn;
    (void)data;
    if (link)
        link->m.text_only = true;
}

/* codecs(writes) -> the table {type name = {decode=, encode=}}; from now on results come as text. `writes`:
 * one of the codecs has an `encode`. */
static int engine_codecs(lua_State *L)
{
    bind_self(L, PG_ENGINE_CLASS);
    lua_settop(L, 2);
    lua_newtable(L);
    struct pg_engine *e = pg_engine_check(L);
    e->typed_values = e->typed_values || lua_toboolean(L, 2);
    if (e->decoder.codecs == LUA_NOREF) {
        e->decoder.codecs = luaL_ref(L, LUA_REGISTRYINDEX);
        pool_each(e->pool, force_text, NULL);
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, e->decoder.codecs);
    return 1;
}

/* target() -> "host:port", for messages */
static int engine_target(lua_State *L)
{
    lua_pushstring(L, pg_engine_check(L)->info->target);
    return 1;
}

/* values() -> the engine's table for parameter values, schema epoch */
static int engine_values(lua_State *L)
{
    struct pg_engine *e = pg_engine_check(L);
    lua_rawgeti(L, LUA_REGISTRYINDEX, e->values);
    lua_pushinteger(L, (lua_Integer)e->rt->schema_epoch);
    return 2;
}

/* on_values(fn): fn(engine or lease, sql, ...) -> ... encodes parameters by their types */
static int on_values(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, PG_WRITE_VALUES);
    return 0;
}

/* on_options(fn): fn(method, options) -> positional, text */
static int on_options(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, PG_CHECK_OPTIONS);
    return 0;
}

/* type_tree(oid) -> the built-in type as a table (param_types.c) */
static int builtin_tree(lua_State *L)
{
    return pg_type_tree_push(L, NULL, (Oid)luaL_checkinteger(L, 1));
}

static int engine_is_sync(lua_State *L)
{
    lua_pushboolean(L, pg_engine_check(L)->sync);
    return 1;
}

/* pause(seconds): the sync engine's sleep: blocks the program until a signal comes */
static int pause_blocking(lua_State *L)
{
    struct runtime *rt = bind_runtime(L);
    unsigned ready;
    uint64_t deadline = deadline_in(luaL_checknumber(L, 1));
    struct trace_span span = rt->trace ? task_span(rt->sched, mono_now()) : (struct trace_span){0};
    enum io_status status = io_poll(-1, 0, deadline, &rt->interrupt, &ready);
    if (rt->trace) {
        struct script_place place;
        struct trace_event event = pg_traced_event(L, rt, TRACE_SLEEP, &place);
        event.name = "sleep";
        event.blocking = true;
        trace_end(rt->trace, &span, &event);
    }
    if (status == IO_INTERRUPTED)
        return bind_fail(L, rt, ERROR_CANCELLED, "interrupted");
    return 0;
}

/* classes() -> engine methods, lease methods, and the metatables of both: lua/dbrun/db.lua adds methods */
static int classes(lua_State *L)
{
    luaL_getmetatable(L, PG_ENGINE_CLASS);
    luaL_getmetatable(L, PG_LEASE_CLASS);
    lua_getfield(L, -2, "__index");
    lua_getfield(L, -2, "methods");
    lua_rotate(L, -4, 2);
    return 4;
}

int bind_pg_open(lua_State *L, struct runtime *rt)
{
    static const luaL_Reg methods[] = {{"query", engine_query},
                                       {"one", engine_one},
                                       {"value", engine_value},
                                       {"exec", engine_exec},
                                       {"rows", engine_rows},
                                       {"columns", engine_columns},
                                       {"acquire", engine_acquire},
                                       {"stats", engine_stats},
                                       {"invalidate", engine_invalidate},
                                       {"dispose", engine_dispose},
                                       {"close", engine_close_method},
                                       {"target", engine_target},
                                       {"codecs", engine_codecs},
                                       {"is_sync", engine_is_sync},
                                       {"values", engine_values},
                                       {NULL, NULL}};
    static const luaL_Reg meta[] = {{"__gc", engine_gc}, {"__close", engine_close_method}, {NULL, NULL}};
    static const luaL_Reg functions[] = {{"engine", engine_new},      {"pause", pause_blocking},
                                         {"classes", classes},        {"named", pg_named_plan},
                                         {"type_tree", builtin_tree}, {"on_values", on_values},
                                         {"on_options", on_options},  {NULL, NULL}};
    bind_json_open(L, rt); /* the classes of the JSON values in results */
    lua_pop(L, 1);
    bind_class(L, rt, PG_ENGINE_CLASS, meta, methods);
    bind_class_words(L, "an engine", "engine");
    lua_pop(L, 1);
    pg_lease_class(L, rt);
    pg_engine_hold_class(L, rt);
    pg_statement_classes(L, rt);
    pg_stream_class(L, rt);
    pg_batch_class(L, rt);
    pg_listen_class(L, rt);
    pg_copy_out_class(L, rt);
    pg_param_types_class(L, rt);
    luaL_newmetatable(L, PG_PARAM_CLASS);
    lua_pushliteral(L, PG_PARAM_CLASS);
    lua_setfield(L, -2, "__name");
    lua_pop(L, 1);
    bind_lib(L, rt, functions);
    lua_pushlightuserdata(L, rt);
    luaL_setfuncs(L, pg_param_functions, 1);
    pg_copy_encoder_open(L, rt);
    lua_setfield(L, -2, "copy");
    return 1;
}
