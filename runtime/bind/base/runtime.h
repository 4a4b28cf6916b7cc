/*
 * What every binding needs: one struct per Lua state, upvalue 1 of every C function that the modules export
 * (those of core.task have the scheduler instead). bind_open makes it once; it lives in the registry until
 * lua_close.
 */
#ifndef DBRUN_BIND_RUNTIME_H
#define DBRUN_BIND_RUNTIME_H

#include "base/log.h"
#include "base/secrets.h"
#include "io/poll.h"
#include "io/worker.h"
#include "task/sched.h"

#include <lauxlib.h>
#include <lua.h>

struct pg_engine;

/* Redis commands that may write: --read-only refuses them, a dry run judges them. */
enum redis_writes { REDIS_WRITES_SENT, REDIS_WRITES_REFUSED, REDIS_WRITES_JUDGED };

struct runtime {
    struct sched *sched;
    struct workers *workers;
    struct secrets *secrets;
    struct log *log;
    struct trace *trace;            /* --trace; NULL: none. Owned by the host */
    struct io_interrupt interrupt;  /* set by the host; fd = -1 in a stock lua5.4 */
    lua_State *L;                   /* the main thread */
    enum redis_writes redis_writes; /* how Redis commands that may write are treated */
    uint64_t redis_links;           /* number of Redis connections opened so far: the last serial number */
    uint64_t redis_links_own;       /* how many of these dbrun itself opened, before the script (--stack) */
    uint64_t schema_epoch;          /* raised by each DDL that a connection of the program commits */
    int uncounted;             /* KiB that results took while the collector did not count (collector.h) */
    struct pg_engine *engines; /* all engines that still have connections or users */
    int pg_leases;             /* the metatable of leases, in the registry: faster than a lookup by name */
};

/* The runtime of the running C function (its upvalue 1). */
static inline struct runtime *bind_runtime(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

/* The runtime of this Lua state; NULL when there is none yet. (bind/core.h makes it.) */
struct runtime *bind_find(lua_State *L);
/* Pops the runtime from the stack and keeps it in the registry. */
void bind_keep(lua_State *L);

/* Pushes a library table whose functions all have the runtime as upvalue 1. */
void bind_lib(lua_State *L, struct runtime *rt, const luaL_Reg *fns);
/* Replaces a C function in the table on top of the stack by `by`, with the runtime as upvalue 1; returns the
 * old function. */
lua_CFunction bind_replace(lua_State *L, struct runtime *rt, const char *name, lua_CFunction by);
/* Pushes a new metatable, `tname` in the registry, with `meta` as metamethods and `methods` as its __index
 * table. Lua code may add methods to __index. */
void bind_class(lua_State *L, struct runtime *rt, const char *tname, const luaL_Reg *meta,
                const luaL_Reg *methods);
/* In a __gc: true when the collector calls it. Otherwise the script called it through the metatable, and the
 * object may still be in use, also by a waiting task. */
bool bind_is_collected(lua_State *L);

#endif
