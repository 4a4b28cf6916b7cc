#include "bind/base/certificates.h"

static void push(lua_State *L, bool there, double seconds)
{
    if (there)
        lua_pushnumber(L, seconds);
    else
        lua_pushnil(L);
}

int bind_push_certificates(lua_State *L, struct certificates certificates)
{
    push(L, certificates.has_peer, certificates.peer);
    push(L, certificates.has_own, certificates.own);
    return 2;
}
