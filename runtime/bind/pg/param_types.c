#include "bind/pg/param_types.h"
#include "base/buf.h"
#include "bind/base/args.h"
#include "bind/base/error.h"
#include "bind/pg/lease.h"
#include "bind/pg/lookup.h"
#include "pg/placeholder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BOX_CLASS "dbrun.pg.oids"

enum { DEEPEST = 32 };

/* ---- types as tables ---- */

static const char *kind_name(enum pg_kind kind)
{
    static const char *const names[] = {[PG_KIND_TEXT] = "text",
                                        [PG_KIND_BOOL] = "bool",
                                        [PG_KIND_INT2] = "int",
                                        [PG_KIND_INT4] = "int",
                                        [PG_KIND_INT8] = "int",
                                        [PG_KIND_OID] = "int",
                                        [PG_KIND_FLOAT4] = "float",
                                        [PG_KIND_FLOAT8] = "float",
                                        [PG_KIND_NUMERIC] = "numeric",
                                        [PG_KIND_BYTEA] = "bytea",
                                        [PG_KIND_DATE] = "date",
                                        [PG_KIND_TIME] = "time",
                                        [PG_KIND_TIMESTAMP] = "timestamp",
                                        [PG_KIND_TIMESTAMPTZ] = "timestamptz",
                                        [PG_KIND_JSON] = "json",
                                        [PG_KIND_JSONB] = "json",
                                        [PG_KIND_ARRAY] = "array",
                                        [PG_KIND_COMPOSITE] = "composite",
                                        [PG_KIND_RANGE] = "range",
                                        [PG_KIND_MULTIRANGE] = "multirange",
                                        [PG_KIND_HSTORE] = "hstore",
                                        [PG_KIND_VECTOR] = "vector"};
    return names[kind];
}

static void push_tree(lua_State *L, const struct pg_catalog *c, Oid oid, int depth)
{
    const struct pg_type *t = pg_type_of(c, oid);
    if (depth > DEEPEST)
        luaL_error(L, "a type of the database is nested too deep");
    luaL_checkstack(L, 8, "a type of the database");
    lua_createtable(L, 0, 4);
    lua_pushinteger(L, oid);
    lua_setfield(L, -2, "oid");
    lua_pushstring(L, t->name[0] ? t->name : "unknown");
    lua_setfield(L, -2, "name");
    lua_pushstring(L, kind_name(t->kind));
    lua_setfield(L, -2, "kind");
    if (t->kind == PG_KIND_COMPOSITE) {
        lua_createtable(L, t->nfields, 0); /* the names, in order */
        lua_createtable(L, 0, t->nfields); /* their types, by name */
        for (int i = 0; i < t->nfields; i++) {
            lua_pushstring(L, t->fields[i].name);
            lua_rawseti(L, -3, i + 1);
            lua_pushstring(L, t->fields[i].name);
            push_tree(L, c, t->fields[i].type, depth + 1);
            lua_rawset(L, -3);
        }
        lua_setfield(L, -3, "fields");
        lua_setfield(L, -2, "names");
    } else if (t->elem && t->kind != PG_KIND_TEXT) {
        push_tree(L, c, t->elem, depth + 1);
        lua_setfield(L, -2, "elem");
    }
    if (t->kind == PG_KIND_ARRAY) {
        char delim[2] = {t->delim ? t->delim : ',', '\0'};
        lua_pushstring(L, delim);
        lua_setfield(L, -2, "delim");
    }
}

int pg_type_tree_push(lua_State *L, const struct pg_catalog *c, Oid oid)
{
    push_tree(L, c, oid, 0);
    return 1;
}

void pg_values_make(lua_State *L, struct pg_engine *e)
{
    lua_newtable(L);
    lua_pushboolean(L, e->decoder.epoch);
    lua_setfield(L, -2, "epoch");
    /* seconds; 0 = no limit; negative: nothing is kept */
    lua_pushnumber(L, e->cache_limit == 0 ? -1 : (lua_Number)e->cache_age / 1e9);
    lua_setfield(L, -2, "age");
    e->values = luaL_ref(L, LUA_REGISTRYINDEX);
}

/* epochs() -> schema epoch, session epoch, backend's pid */
int pg_lease_epochs(lua_State *L)
{
    const struct pg_link *link = pg_lease_check(L)->link;
    lua_pushinteger(L, (lua_Integer)*link->m.schema_epoch);
    lua_pushinteger(L, (lua_Integer)link->m.session_epoch);
    lua_pushinteger(L, link->pid);
    return 3;
}

/* ---- asking the server ---- */

struct oids {
    Oid *list;
};

static int oids_gc(lua_State *L)
{
    struct oids *o = luaL_checkudata(L, 1, BOX_CLASS);
    free(o->list);
    o->list = NULL;
    return 0;
}

void pg_param_types_class(lua_State *L, struct runtime *rt)
{
    static const luaL_Reg meta[] = {{"__gc", oids_gc}, {NULL, NULL}};
    bind_class(L, rt, BOX_CLASS, meta, NULL);
    lua_pop(L, 1);
}

static int fail(lua_State *L, struct pg_link *link, lua_Integer number)
{
    struct error e = {0};
    struct buf context = {0};
    error_move(&e, &link->m.error);
    if (!error_is_set(&e))
        error_set(&e, ERROR_QUERY, "the server could not be asked for the types of the parameters");
    if (lua_rawgeti(L, 2, number) == LUA_TTABLE && lua_rawgeti(L, -1, 1) == LUA_TSTRING)
        pg_error_of_statement(&e, lua_tostring(L, -1));
    const char *before = e.field ? e.field[ERROR_CONTEXT] : NULL;
    buf_addf(&context, "%s%sasking for the types of its parameters; the statement has not run",
             before ? before : "", before ? "\n" : "");
    error_set_field(&e, ERROR_CONTEXT, context.data);
    buf_free(&context);
    if (e.outcome == OUTCOME_UNKNOWN && !link->m.in_transaction)
        e.outcome = OUTCOME_NOT_SENT;
    pg_machine_batch_clear(&link->m);
    return bind_error_raise(L, link->engine->rt, &e);
}

static int described_k(lua_State *L, int status, lua_KContext ctx)
{
    struct pg_link *link = (struct pg_link *)ctx;
    pg_lease_waited(L, link, status, "the types of the parameters did not come");
    lua_settop(L, 4);
    struct pg_batch *b = &link->m.batch;
    if (error_is_set(&link->m.error))
        return fail(L, link, (lua_Integer)b->n + 1);
    /* Copied first, because the code below allocates, and a finaliser of the script may use the
     * connection. */
    struct oids *box = lua_touserdata(L, 3);
    size_t n = b->n;
    size_t total = 0;
    for (size_t i = 0; i < n; i++)
        total += 1 + (size_t)PQnparams(b->list[i]);
    box->list = malloc((total + 1) * sizeof *box->list);
    if (!box->list)
        return luaL_error(L, "not enough memory");
    Oid *at = box->list;
    for (size_t i = 0; i < n; i++) {
        int np = PQnparams(b->list[i]);
        *at++ = (Oid)np;
        for (int p = 0; p < np; p++)
            *at++ = PQparamtype(b->list[i], p);
    }
    pg_machine_batch_clear(&link->m);
    lua_createtable(L, (int)n, 0);
    at = box->list;
    for (size_t i = 0; i < n; i++) {
        Oid np = *at++;
        lua_createtable(L, (int)np, 0);
        for (Oid p = 1; p <= np; p++) {
            lua_pushinteger(L, *at++);
            lua_rawseti(L, -2, (lua_Integer)p);
        }
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

/* Cannot raise: `declared` has room for all, and the list was checked. */
static bool add_description(lua_State *L, struct pg_link *link, lua_Integer i, Oid *declared)
{
    lua_rawgeti(L, 2, i);
    int n = (int)lua_rawlen(L, -1) - 1;
    for (int p = 0; p < n; p++) {
        lua_rawgeti(L, -1, p + 2);
        declared[p] = (Oid)lua_tointeger(L, -1);
        lua_pop(L, 1);
    }
    lua_rawgeti(L, -1, 1);
    struct pg_params params = {.n = n, .types = declared};
    bool ok = pg_machine_batch_describe(&link->m, lua_tostring(L, -1), &params);
    lua_pop(L, 2);
    return ok;
}

/* The index of the first statement in the list at 2 whose parameters the session may read differently; 0:
 * none, or the machine is busy. */
static lua_Integer find_unsure(lua_State *L, struct pg_link *link, lua_Integer n)
{
    for (lua_Integer i = 1; i <= n && !pg_machine_is_busy(&link->m); i++) {
        size_t len;
        lua_rawgeti(L, 2, i);
        int params = (int)lua_rawlen(L, -1) - 1;
        lua_rawgeti(L, -1, 1);
        const char *sql = lua_tolstring(L, -1, &len);
        bool sure = pg_machine_knows_parameters(&link->m, sql, len, params);
        lua_pop(L, 2);
        if (!sure)
            return i;
    }
    return 0;
}

/* parameter_types({{sql, declared type or 0, ...}, ...}) -> {{oid, ...}, ...}: in one round trip */
int pg_lease_parameter_types(lua_State *L)
{
    bind_check_type(L, PG_LEASE_CLASS, 2, "the list", LUA_TTABLE);
    lua_settop(L, 2);
    lua_Integer n = (lua_Integer)lua_rawlen(L, 2);
    size_t most = 0;
    for (lua_Integer i = 1; i <= n; i++) {
        luaL_argcheck(L, lua_rawgeti(L, 2, i) == LUA_TTABLE && lua_rawgeti(L, -1, 1) == LUA_TSTRING, 2,
                      "expected a list of statements");
        if (lua_rawlen(L, -2) > most)
            most = lua_rawlen(L, -2);
        lua_settop(L, 2);
    }
    if (most > 65536)
        return bind_fail(L, bind_runtime(L), ERROR_USAGE,
                         "a statement with %d parameters: PostgreSQL takes at most 65535", (int)most - 1);
    struct oids *box = lua_newuserdatauv(L, sizeof *box, 0);
    box->list = NULL;
    luaL_setmetatable(L, BOX_CLASS);
    Oid *declared = lua_newuserdatauv(L, (most + 1) * sizeof *declared, 0);
    luaL_checkstack(L, 8, "the types of parameters");
    struct pg_link *link = pg_lease_link(L);
    lua_Integer unsure = find_unsure(L, link, n);
    if (unsure > 0)
        return fail(L, link, unsure);
    if (pg_link_is_draining(link) || !pg_machine_batch_begin(&link->m, false, true))
        return fail(L, link, 1);
    snprintf(link->statement, sizeof link->statement, "the types of parameters");
    bool ok = true;
    for (lua_Integer i = 1; ok && i <= n; i++)
        ok = add_description(L, link, i, declared);
    if (!ok || !pg_machine_batch_end(&link->m)) {
        pg_machine_break(&link->m);
        return fail(L, link, 1);
    }
    return pg_link_wait(L, link, link->engine->command_timeout, (lua_KContext)link, described_k);
}

/* ---- looking them up in the catalog ---- */

/* True when the engine knows the types in the list at 2, and all types that they contain. */
static bool are_known(lua_State *L, struct pg_link *link)
{
    bool known = true;
    size_t n = lua_rawlen(L, 2);
    for (size_t i = 1; known && i <= n; i++) {
        lua_rawgeti(L, 2, (lua_Integer)i);
        known = pg_type_is_known(link->engine->catalog, (Oid)lua_tointeger(L, -1));
        lua_pop(L, 1);
    }
    return known;
}

/* Stack: lease, list, hold. */
enum { HOLD = 3 };

/* The hold keeps the engine, which a finaliser may close while the tables are made. */
static int push_trees(lua_State *L, struct pg_engine *e)
{
    struct pg_engine_hold *hold = lua_touserdata(L, HOLD);
    pg_engine_hold_take(hold, e);
    size_t n = lua_rawlen(L, 2);
    lua_createtable(L, 0, (int)n);
    for (size_t i = 1; i <= n; i++) {
        lua_rawgeti(L, 2, (lua_Integer)i);
        pg_type_tree_push(L, e->catalog, (Oid)lua_tointeger(L, -1));
        lua_rawset(L, -3);
    }
    pg_engine_hold_drop(hold);
    return 1;
}

static int loaded_k(lua_State *L, int status, lua_KContext ctx)
{
    struct pg_link *link = (struct pg_link *)ctx;
    struct error e = {0};
    pg_lease_waited(L, link, status, "the catalog did not answer");
    lua_settop(L, HOLD);
    if (pg_lookup_done(link, &e))
        return push_trees(L, link->engine);
    return bind_error_raise(L, link->engine->rt, &e);
}

/* load_types({oid, ...}) -> {oid = tree}: asks the catalog about types that the engine does not know */
int pg_lease_load_types(lua_State *L)
{
    bind_check_type(L, PG_LEASE_CLASS, 2, "the list", LUA_TTABLE);
    lua_settop(L, 2);
    pg_engine_hold_push(L);
    struct pg_link *link = pg_lease_link(L);
    if (link->engine->no_lookups || are_known(L, link))
        return push_trees(L, link->engine);
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    size_t n = lua_rawlen(L, 2);
    for (size_t i = 1; i <= n; i++) {
        char digits[16];
        lua_rawgeti(L, 2, (lua_Integer)i);
        int len = snprintf(digits, sizeof digits, "%s%u", i > 1 ? "," : "{", (Oid)lua_tointeger(L, -1));
        lua_pop(L, 1);
        luaL_addlstring(&b, digits, (size_t)len);
    }
    luaL_addchar(&b, '}');
    luaL_pushresult(&b);
    link = pg_lease_link(L); /* again, since a finaliser may have used the lease: memory was allocated */
    if (!pg_lookup_send_list(link, lua_tostring(L, -1)))
        return loaded_k(L, LUA_OK, (lua_KContext)link);
    return pg_link_wait(L, link, link->engine->command_timeout, (lua_KContext)link, loaded_k);
}
