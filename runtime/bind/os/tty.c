#include "bind/os/tty.h"

#include <sys/ioctl.h>
#include <unistd.h>

/* isatty(fd) */
static int tty_isatty(lua_State *L)
{
    lua_pushboolean(L, isatty((int)luaL_checkinteger(L, 1)));
    return 1;
}

/* width(fd) -> columns, nil where that is not known */
static int tty_width(lua_State *L)
{
    struct winsize size = {0};
    if (ioctl((int)luaL_checkinteger(L, 1), TIOCGWINSZ, &size) < 0 || size.ws_col == 0)
        return 0;
    lua_pushinteger(L, size.ws_col);
    return 1;
}

int bind_tty_open(lua_State *L, struct runtime *rt)
{
    static const luaL_Reg functions[] = {{"isatty", tty_isatty}, {"width", tty_width}, {NULL, NULL}};
    bind_lib(L, rt, functions);
    return 1;
}
