#include "bind/os/tty.h"

#include "base/printable.h"

#include <sys/ioctl.h>
#include <unistd.h>

#define BUF_CLASS "dbrun.tty.buf"

/* isatty(fd) */
static int tty_isatty(lua_State *L)
{
    lua_pushboolean(L, isatty((int)luaL_checkinteger(L, 1)));
    return 1;
}

/* width(fd) -> columns, nil when unknown */
static int tty_width(lua_State *L)
{
    struct winsize size = {0};
    if (ioctl((int)luaL_checkinteger(L, 1), TIOCGWINSZ, &size) < 0 || size.ws_col == 0)
        return 0;
    lua_pushinteger(L, size.ws_col);
    return 1;
}

/* height(fd) -> lines, nil when unknown */
static int tty_height(lua_State *L)
{
    struct winsize size = {0};
    if (ioctl((int)luaL_checkinteger(L, 1), TIOCGWINSZ, &size) < 0 || size.ws_row == 0)
        return 0;
    lua_pushinteger(L, size.ws_row);
    return 1;
}

static int buf_gc(lua_State *L)
{
    buf_free(luaL_checkudata(L, 1, BUF_CLASS));
    return 0;
}

/* printable(text) -> the text, escaped for a terminal (base/printable.h) */
static int tty_printable(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    struct buf *out = lua_newuserdatauv(L, sizeof *out, 0);
    *out = (struct buf){0};
    luaL_setmetatable(L, BUF_CLASS);
    if (!printable_add(out, text, len))
        return luaL_error(L, "not enough memory");
    lua_pushlstring(L, out->data ? out->data : "", out->len);
    buf_free(out);
    return 1;
}

int bind_tty_open(lua_State *L, struct runtime *rt)
{
    static const luaL_Reg functions[] = {{"height", tty_height},
                                         {"isatty", tty_isatty},
                                         {"printable", tty_printable},
                                         {"width", tty_width},
                                         {NULL, NULL}};
    static const luaL_Reg buf_meta[] = {{"__gc", buf_gc}, {NULL, NULL}};
    bind_class(L, rt, BUF_CLASS, buf_meta, NULL);
    lua_pop(L, 1);
    bind_lib(L, rt, functions);
    return 1;
}
