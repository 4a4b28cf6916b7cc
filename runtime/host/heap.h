/*
 * The memory of the Lua state. A small program's comes from the C library. Once a program has asked for
 * DBRUN_HEAP_FROM bytes in all, what it asks for next comes from mimalloc, where that is installed: from a
 * heap in an area of its own, so that libpq's blocks do not lie between Lua's, and in huge pages as soon as
 * it is large, so that a million values cost fewer page faults and misses of the TLB. Opening it with dlopen
 * keeps it out of the start of every program.
 *
 * Ownership: the area stays until the process ends. Each block goes back to where it came from.
 */
#ifndef DBRUN_HOST_HEAP_H
#define DBRUN_HOST_HEAP_H

#include <lua.h>

/* From now on the state's memory comes from here. On the main thread, which alone runs Lua. */
void heap_serve(lua_State *L);

#endif
