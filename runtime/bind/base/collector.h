/*
 * A large result is made without garbage collections in between: none of its values can be garbage yet, and
 * each collection would walk over all of them. The memory that it took is counted when the next result is
 * made; until then the collector runs as usual for what else the program allocates.
 */
#ifndef DBRUN_BIND_COLLECTOR_H
#define DBRUN_BIND_COLLECTOR_H

#include "bind/base/runtime.h"

/* Counts the memory that earlier results took: the collector can run now, and finalisers with it. */
void collector_settle(lua_State *L, struct runtime *rt);
/* From here on the collector does not run, and no finaliser. Returns what collector_resume takes. */
int collector_pause(lua_State *L);
/* Resumes the collector as if nothing had been allocated since. It can run at once. */
void collector_resume(lua_State *L, struct runtime *rt, int paused);

#endif
