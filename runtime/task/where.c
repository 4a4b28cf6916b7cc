#include "task/where.h"

#include <stdio.h>
#include <string.h>

static char registry_key; /* its address is the key of the folder, written as in a chunk's source: "@/..." */

void script_own_folder(lua_State *L, const char *folder)
{
    lua_pushfstring(L, "@%s", folder);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &registry_key);
}

/* The registry keeps the text alive. */
static const char *own_folder(lua_State *L)
{
    if (!lua_checkstack(L, 1))
        return NULL;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &registry_key);
    const char *folder = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
    lua_pop(L, 1);
    return folder;
}

static bool begins_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

bool script_where(lua_State *L, int from_level, char *out, size_t size)
{
    lua_Debug ar;
    const char *folder = own_folder(L);
    for (int level = from_level; lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "Sl", &ar);
        if (ar.currentline <= 0 || begins_with(ar.source, "=dbrun/") ||
            (folder && begins_with(ar.source, folder)))
            continue;
        snprintf(out, size, "%s:%d", ar.short_src, ar.currentline);
        return true;
    }
    return false;
}
