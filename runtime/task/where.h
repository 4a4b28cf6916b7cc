/*
 * Finds the calling line of the script: the innermost Lua function on a stack that is not in one of dbrun's
 * modules.
 *
 * A module is dbrun's when it comes from the binary, whose chunks are named "=dbrun/..." (those of files
 * never are), or from the folder given to script_own_folder.
 */
#ifndef DBRUN_TASK_WHERE_H
#define DBRUN_TASK_WHERE_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

/* Room for any "file:line". */
enum { SCRIPT_WHERE = LUA_IDSIZE + 12 };

/* A line kept for later, not formatted yet, with a copy of the chunk's name, because the name may be
 * collected meanwhile. */
struct script_place {
    int line; /* 0 = none */
    char file[LUA_IDSIZE];
};

/* Chunks of files in `folder` (ends in "dbrun/") count as dbrun's from now on. */
void script_own_folder(lua_State *L, const char *folder);

/* The line of the innermost script function at `from_level` or above on L's stack; false, with `out`
 * unchanged, when there is none. Never raises. */
bool script_place(lua_State *L, int from_level, struct script_place *out);
/* Writes the place as "file:line"; false, with `out` unchanged, when it is empty. */
bool script_place_text(const struct script_place *p, char *out, size_t size);
/* script_place and script_place_text in one call. */
bool script_where(lua_State *L, int from_level, char *out, size_t size);

#endif
