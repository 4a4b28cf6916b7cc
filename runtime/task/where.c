#include "task/where.h"

#include <stdio.h>
#include <string.h>

#define FOLDER_END "dbrun/"

static char registry_key; /* its address is the registry key of the folder, which is stored as a chunk's
                             source: "@/..." */

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

/* True when the function is in one of dbrun's modules: embedded, or from the folder. The cheap test, whether
 * the source is a file in a folder of that name at all, comes first. */
static bool is_own(lua_State *L, const lua_Debug *ar)
{
    if (*ar->source == '=')
        return begins_with(ar->source, "=dbrun/");
    const char *folder = *ar->source == '@' && strstr(ar->source, FOLDER_END) ? own_folder(L) : NULL;
    return folder && begins_with(ar->source, folder);
}

/* Sets *ar to the innermost script function. */
static bool find(lua_State *L, int from_level, lua_Debug *ar)
{
    for (int level = from_level; lua_getstack(L, level, ar); level++) {
        lua_getinfo(L, "Sl", ar);
        if (ar->currentline > 0 && !is_own(L, ar))
            return true;
    }
    return false;
}

bool script_place(lua_State *L, int from_level, struct script_place *out)
{
    lua_Debug ar;
    if (!find(L, from_level, &ar))
        return false;
    _Static_assert(sizeof out->file == sizeof ar.short_src, "all of it is copied");
    memcpy(out->file, ar.short_src, sizeof out->file);
    out->line = ar.currentline;
    return true;
}

bool script_place_text(const struct script_place *p, char *out, size_t size)
{
    if (p->line > 0)
        snprintf(out, size, "%s:%d", p->file, p->line);
    return p->line > 0;
}

bool script_where(lua_State *L, int from_level, char *out, size_t size)
{
    struct script_place p;
    return script_place(L, from_level, &p) && script_place_text(&p, out, size);
}
