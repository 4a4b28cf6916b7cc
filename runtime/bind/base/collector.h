/*
 * A large result is made without the collector in between: nothing that is made can be garbage yet, and each
 * collection would walk over all of it. What it took is counted when the next one is made; the collector runs
 * before, as ever, for what else the program allocates.
 */
#ifndef DBRUN_BIND_COLLECTOR_H
#define DBRUN_BIND_COLLECTOR_H

#include "bind/base/runtime.h"

/* Counts what earlier results took: the collector may run, and finalisers with it. */
void collector_settle(lua_State *L, struct runtime *rt);
/* From here on the collector does not run, and no finaliser. Returns what collector_resume takes. */
int collector_pause(lua_State *L);
/* The collector goes on as if nothing had been allocated since. It may run at once. */
void collector_resume(lua_State *L, struct runtime *rt, int paused);

#endif
