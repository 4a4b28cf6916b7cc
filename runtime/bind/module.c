/* `require "dbrun.core"` in a stock lua5.4. In dbrun itself the host opens bind_core. */
#include "bind/runtime.h"

__attribute__((visibility("default"))) int luaopen_dbrun_core(lua_State *L);

int luaopen_dbrun_core(lua_State *L)
{
    return bind_core(L);
}
