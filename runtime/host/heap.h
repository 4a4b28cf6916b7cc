/*
 * The memory of the Lua state. Small programs use the C library. Once a program has asked for DBRUN_HEAP_FROM
 * bytes in total, further blocks come from mimalloc, if it is installed: from a heap in a separate area, so
 * that libpq's blocks do not lie between Lua's, and with huge pages once it is large, so that a million
 * values cause fewer page faults and TLB misses. Because mimalloc is opened with dlopen, other starts do not
 * pay for it.
 *
 * Ownership: the area stays until the process ends. Each block is freed to where it came from.
 */
#ifndef DBRUN_HOST_HEAP_H
#define DBRUN_HOST_HEAP_H

#include <lua.h>

/* Serves the state's memory from now on. On the main thread, the only one that runs Lua. */
void heap_serve(lua_State *L);

#endif
