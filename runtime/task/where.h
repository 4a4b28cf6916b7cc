/*
 * The line of the script that called: the innermost Lua function on a stack that is not in one of dbrun's
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

/* Chunks of files in `folder` (ends in "/") count as dbrun's from now on. */
void script_own_folder(lua_State *L, const char *folder);

/* Writes "file:line" of the innermost script function at `from_level` or above on L's stack; false, and
 * `out` as it was, when there is none. Never raises. */
bool script_where(lua_State *L, int from_level, char *out, size_t size);

#endif
