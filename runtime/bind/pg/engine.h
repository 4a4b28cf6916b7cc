/*
 * An engine: settings and a pool. Its block can outlive the userdata: it is reference-counted, by its
 * userdata, by its pool until the pool is drained, by its links and by each statement under way.
 */
#ifndef DBRUN_BIND_PG_ENGINE_H
#define DBRUN_BIND_PG_ENGINE_H

#include "base/deadline.h"
#include "bind/base/connector.h"
#include "bind/base/runtime.h"
#include "bind/pg/conninfo.h"
#include "bind/pg/decode_scalar.h"
#include "bind/pg/notice_list.h"
#include "pool/pool.h"

#define PG_ENGINE_CLASS "dbrun.pg.engine"

enum pg_reset { PG_RESET_ROLLBACK, PG_RESET_FULL, PG_RESET_NONE };

struct pg_engine {
    struct runtime *rt;
    struct pool *pool;
    struct pg_conninfo *info;
    struct connector connector; /* of the pool */
    struct pg_engine *next;     /* of the runtime */
    struct pg_engine *prev;
    unsigned refs;
    void (*last)(struct pg_engine *e); /* called when the count falls to 0: frees what module.c made */
    struct pg_mux *mux; /* pipeline=: statements share connections; NULL = each takes its own */
    bool sync;
    bool exact; /* its pool needs the exact time (pg_engine_now) */
    bool closed;
    bool pre_ping;
    bool typed_values; /* any parameter may need its type: a codec encodes, or timestamps are numbers */
    bool no_lookups;   /* the catalog refused: values of user-defined types stay text */
    bool cache_off;    /* a pooler in between loses prepared statements */
    enum pg_reset reset;
    uint32_t cache_limit;
    uint64_t cache_age;     /* ns; 0 = no limit */
    double timeout;         /* seconds, as all below */
    double command_timeout; /* 0 = none */
    double pre_ping_idle;
    struct pg_catalog *catalog; /* user-defined types that were looked up */
    struct pg_decoder decoder;
    int on_connect; /* the script's functions, in the registry; LUA_NOREF = none */
    int on_notice;
    int values;                /* the table for parameter values, in the registry (param_types.h) */
    struct pg_notices notices; /* from shared connections */
    size_t large_result;       /* a result of at least this many bytes is logged; 0 = never */
    char name[16];
};

struct pg_engine_box {
    struct pg_engine *e; /* NULL = closed */
};

/* The time for a checkout or return. Reading the exact clock costs as much as either, and the time is used
 * only for coarser figures: how long a connection was idle, and how long it is held. The exact time is needed
 * on the sync engine, because no loop watches its idle connections, and while tasks wait, because their waits
 * are measured. */
static inline uint64_t pg_engine_now(const struct pg_engine *e)
{
    return e->exact || pool_has_waiter(e->pool) ? mono_now() : mono_coarse();
}

void pg_engine_ref(struct pg_engine *e);
void pg_engine_unref(struct pg_engine *e);

/* A reference to an engine on the stack, for code that reads the engine while it makes Lua values, because a
 * finaliser of the script may close the engine meanwhile. Push it empty, check that the engine is open, then
 * take. */
struct pg_engine_hold {
    struct pg_engine *e;
};
struct pg_engine_hold *pg_engine_hold_push(lua_State *L);
void pg_engine_hold_take(struct pg_engine_hold *hold, struct pg_engine *e);
void pg_engine_hold_drop(struct pg_engine_hold *hold);
void pg_engine_hold_class(lua_State *L, struct runtime *rt);

/* The engine at 1; raises when it has been closed. */
struct pg_engine *pg_engine_check(lua_State *L);

#endif
