/* Prints an error that the script did not catch. */
#include "base/printable.h"
#include "host/host.h"

#include <stdio.h>
#include <string.h>

static void write_masked(struct runtime *rt, const char *text, size_t len)
{
    struct buf masked = {0};
    struct buf out = {0};
    const struct secrets *secrets = rt != NULL ? rt->secrets : NULL;
    bool ok = secrets_mask(secrets, text, len, &masked) && printable_add(&out, masked.data, masked.len);
    if (ok)
        fwrite(out.data, 1, out.len, stderr);
    else
        fputs("not enough memory", stderr);
    buf_free(&masked);
    buf_free(&out);
}

static void write_line(const char *progname, struct runtime *rt, const char *text, size_t len)
{
    fflush(stdout);
    if (progname != NULL) {
        write_masked(rt, progname, strlen(progname));
        fputs(": ", stderr);
    }
    write_masked(rt, text, len);
    fputc('\n', stderr);
    fflush(stderr);
}

void report_line(const char *progname, struct runtime *rt, const char *text)
{
    write_line(progname, rt, text, strlen(text));
}

/* Pushes core.task.traceback(value at index), which is nil when unknown. */
static void push_traceback(lua_State *L, int index)
{
    index = lua_absindex(L, index);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_getfield(L, -1, "dbrun.core");
    lua_getfield(L, -1, "task");
    lua_getfield(L, -1, "traceback");
    lua_pushvalue(L, index);
    lua_call(L, 1, 1);
    lua_replace(L, -4);
    lua_pop(L, 2);
}

bool report_is_kind(lua_State *L, int index, const char *kind)
{
    index = lua_absindex(L, index);
    bool is = false;
    if (lua_getmetatable(L, index)) {
        luaL_getmetatable(L, "dbrun.error");
        is = lua_rawequal(L, -1, -2);
        lua_pop(L, 2);
    }
    if (is && kind != NULL) {
        lua_pushliteral(L, "kind");
        lua_rawget(L, index);
        const char *name = lua_tostring(L, -1);
        is = name != NULL && strcmp(name, kind) == 0;
        lua_pop(L, 1);
    }
    return is;
}

/* True for a mistake on the command line or in the configuration, not in the script: it needs no
 * traceback. */
static bool is_usage(lua_State *L, int index)
{
    return report_is_kind(L, index, "usage") || report_is_kind(L, index, "config");
}

/* Stack: the error; leaves its text. Strings carry their traceback already. */
static int push_text(lua_State *L)
{
    luaL_checkany(L, 1);
    if (lua_type(L, 1) == LUA_TSTRING || lua_type(L, 1) == LUA_TNUMBER) {
        lua_tostring(L, 1);
        return 1;
    }
    bool has_text = luaL_callmeta(L, 1, "__tostring") && lua_type(L, -1) == LUA_TSTRING;
    if (has_text && (!report_is_kind(L, 1, NULL) || is_usage(L, 1)))
        return 1;
    if (!has_text)
        lua_pushfstring(L, "(error object is a %s value)", luaL_typename(L, 1));
    push_traceback(L, 1);
    if (!lua_isstring(L, -1)) {
        lua_pop(L, 1);
        return 1;
    }
    lua_pushfstring(L, "%s\n%s", lua_tostring(L, -2), lua_tostring(L, -1));
    return 1;
}

void report_push_text(lua_State *L)
{
    lua_pushcfunction(L, push_text);
    lua_insert(L, -2);
    lua_pcall(L, 1, 1, 0); /* an error in __tostring becomes the text */
    if (lua_tostring(L, -1) == NULL) {
        lua_pop(L, 1);
        lua_pushliteral(L, "(the error has no text)");
    }
}

/* Stack: 1 the error. Adds a hint to the text on top when the script calls a name that does not exist. */
static void add_hint(lua_State *L)
{
    const char *text = lua_tostring(L, -1);
    if (strstr(text, "attempt to call a nil value (") == NULL)
        return;
    int top = lua_gettop(L);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "dbrun.mistyped");
    if (lua_pcall(L, 1, 1, 0) == LUA_OK && lua_istable(L, -1)) {
        lua_getfield(L, -1, "hint");
        lua_pushstring(L, text);
        lua_pushinteger(L, 2); /* below this handler */
        if (lua_pcall(L, 2, 1, 0) == LUA_OK && lua_isstring(L, -1)) {
            lua_pushfstring(L, "%s\nHINT:  %s", text, lua_tostring(L, -1));
            lua_replace(L, top);
        }
    }
    lua_settop(L, top);
}

int report_handler(lua_State *L)
{
    const struct host *h = lua_touserdata(L, lua_upvalueindex(1));
    struct sched *s = h->rt->sched;
    if (h->phase == PHASE_ENDING) /* os.exit closes a variable: its error is a warning */
        return 1;
    if (report_is_kind(L, 1, NULL))
        return sched_note_error(L, s);
    lua_pushvalue(L, 1); /* lua_tostring turns a number into a text */
    const char *text = lua_tostring(L, -1);
    if (text == NULL && luaL_callmeta(L, 1, "__tostring") && lua_type(L, -1) == LUA_TSTRING)
        return 1;
    if (text == NULL)
        text = lua_pushfstring(L, "(error object is a %s value)", luaL_typename(L, 1));
    lua_pushvalue(L, 1);
    sched_note_error(L, s);
    lua_pushstring(L, text);
    if (lua_type(L, 1) == LUA_TSTRING)
        add_hint(L);
    if (sched_push_traceback(L, s, 1))
        lua_pushfstring(L, "%s\n%s", lua_tostring(L, -2), lua_tostring(L, -1));
    return 1;
}

/* lua_CFunction under pcall: the text with a hint, or nil. */
static int ask_later(lua_State *L)
{
    lua_getglobal(L, "require");
    lua_pushliteral(L, "dbrun.mistyped");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "later");
    lua_pushvalue(L, 1);
    lua_call(L, 1, 1);
    return 1;
}

/* Stack: the text of an error, perhaps of another task. Adds the hint that the handler could not add from its
 * own task. */
static void add_late_hint(lua_State *L)
{
    if (strstr(lua_tostring(L, -1), "attempt to call a nil value (") == NULL)
        return;
    lua_pushcfunction(L, ask_later);
    lua_pushvalue(L, -2);
    if (lua_pcall(L, 1, 1, 0) == LUA_OK && lua_isstring(L, -1))
        lua_remove(L, -2);
    else
        lua_pop(L, 1);
}

int report_error(lua_State *L, struct host *h)
{
    int status = is_usage(L, -1) ? STATUS_USAGE : STATUS_FAILED;
    bool plain = h->preparing && report_is_kind(L, -1, NULL);
    report_push_text(L);
    add_late_hint(L);
    size_t len;
    const char *text = lua_tolstring(L, -1, &len);
    const char *traceback = strstr(text, "\nstack traceback:\n");
    if (plain && traceback != NULL)
        len = (size_t)(traceback - text);
    write_line(h->progname, h->rt, text, len);
    return status;
}
