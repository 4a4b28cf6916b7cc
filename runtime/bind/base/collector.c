#include "bind/base/collector.h"

/* lua_gc(LUA_GCSTEP, n) adds n KiB to the amount that the collector counts as allocated since its last run; n
 * can be negative. (LUA_GCSTOP and LUA_GCRESTART would reset this amount.) */
enum { PAUSE = sizeof(ptrdiff_t) > 4 ? 1 << 30 : 1 << 20, STOPPED = -1 };

void collector_settle(lua_State *L, struct runtime *rt)
{
    int n = rt->uncounted;
    rt->uncounted = 0;
    if (n > 0 && lua_gc(L, LUA_GCISRUNNING) == 1)
        lua_gc(L, LUA_GCSTEP, n);
}

int collector_pause(lua_State *L)
{
    if (lua_gc(L, LUA_GCISRUNNING) != 1) /* the script has stopped the collector, or this is a finaliser */
        return STOPPED;
    lua_gc(L, LUA_GCSTEP, -PAUSE);
    return lua_gc(L, LUA_GCCOUNT);
}

void collector_resume(lua_State *L, struct runtime *rt, int paused)
{
    if (paused == STOPPED)
        return;
    int grown = lua_gc(L, LUA_GCCOUNT) - paused;
    if (grown > 0 && rt->uncounted < PAUSE - grown)
        rt->uncounted += grown;
    lua_gc(L, LUA_GCSTEP, PAUSE - grown);
}
