#include "bind/data/text.h"

#include "base/buf.h"
#include "base/printable.h"
#include "base/width.h"

#define BUF_CLASS "dbrun.text.buf"

static const char ELLIPSIS[] = "\xe2\x80\xa6";

static int buf_gc(lua_State *L)
{
    buf_free(luaL_checkudata(L, 1, BUF_CLASS));
    return 0;
}

/* The printed part of a text: its first `len` bytes, and an ellipsis when it was cut. */
struct cell {
    size_t len, columns;
    bool cut;
};

static struct cell cell_of(const char *text, size_t len, size_t most)
{
    struct cell cell = {0};
    cell.len = width_fit(text, len, most, &cell.columns);
    if (cell.len == len)
        return cell;
    cell.len = width_fit(text, len, most > 0 ? most - 1 : 0, &cell.columns);
    cell.cut = most > 0;
    if (cell.cut)
        cell.columns++;
    return cell;
}

/* Argument `arg` as a number of columns; no limit when it is absent. */
static size_t check_columns(lua_State *L, int arg)
{
    if (lua_isnoneornil(L, arg))
        return (size_t)-1;
    lua_Integer n = luaL_checkinteger(L, arg);
    luaL_argcheck(L, n >= 0, arg, "columns must not be negative");
    return (size_t)n;
}

static int text_width(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    lua_pushinteger(L, (lua_Integer)width_of(text, len));
    return 1;
}

static int text_cut(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    luaL_checkinteger(L, 2);
    struct cell cell = cell_of(text, len, check_columns(L, 2));
    if (cell.len == len)
        lua_settop(L, 1);
    else
        lua_pushlstring(L, text, cell.len);
    if (cell.cut) {
        lua_pushstring(L, ELLIPSIS);
        lua_concat(L, 2);
    }
    return 1;
}

/* Pushes the first `len` bytes escaped, with an ellipsis if `cut`. */
static int push_escaped(lua_State *L, const char *text, size_t len, bool cut)
{
    struct buf *out = lua_newuserdatauv(L, sizeof *out, 0);
    *out = (struct buf){0};
    luaL_setmetatable(L, BUF_CLASS);
    if (!printable_line_add(out, text, len) || (cut && !buf_adds(out, ELLIPSIS)))
        return luaL_error(L, "not enough memory");
    lua_pushlstring(L, out->data ? out->data : "", out->len);
    buf_free(out);
    return 1;
}

static bool is_plain(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (text[i] < 0x20 || text[i] >= 0x7f) /* works for signed and unsigned char */
            return false;
    }
    return true;
}

static int text_escape(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    if (!is_plain(text, len))
        return push_escaped(L, text, len, false);
    lua_settop(L, 1);
    return 1;
}

static int text_cell(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    size_t most = check_columns(L, 2);
    if (len <= most && is_plain(text, len)) { /* the usual case */
        lua_settop(L, 1);
        lua_pushinteger(L, (lua_Integer)len);
        return 2;
    }
    struct cell cell = cell_of(text, len, most);
    push_escaped(L, text, cell.len, cell.cut);
    lua_pushinteger(L, (lua_Integer)cell.columns);
    return 2;
}

int bind_text_open(lua_State *L, struct runtime *rt)
{
    static const luaL_Reg functions[] = {
        {"width", text_width}, {"cut", text_cut}, {"escape", text_escape}, {"cell", text_cell}, {NULL, NULL}};
    static const luaL_Reg buf_meta[] = {{"__gc", buf_gc}, {NULL, NULL}};
    bind_class(L, rt, BUF_CLASS, buf_meta, NULL);
    lua_pop(L, 1);
    bind_lib(L, rt, functions);
    return 1;
}
