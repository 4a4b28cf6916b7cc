#include "bind/os/clock.h"

#include <time.h>

/* now() -> microseconds since 1970 */
static int clock_now(lua_State *L)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    lua_pushinteger(L, (lua_Integer)ts.tv_sec * 1000000 + ts.tv_nsec / 1000);
    return 1;
}

int bind_clock_open(lua_State *L, struct runtime *rt)
{
    static const luaL_Reg functions[] = {{"now", clock_now}, {NULL, NULL}};
    bind_lib(L, rt, functions);
    return 1;
}
