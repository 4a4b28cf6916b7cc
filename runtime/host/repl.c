/*
 * The prompt when standard input is no terminal: as in lua, for programs that drive it. The root task runs
 * each statement itself, under lua_pcallk, in a stretch that SIGINT cancels. At a terminal, see prompt.c.
 *
 *   READ --a whole statement--> EVALUATE --it ended--> READ     end of input: the REPL returns
 *     ^--incomplete: more lines-|
 */
#include "host/host.h"
#include "host/read.h"
#include "host/signals.h"

#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPL_CLASS "dbrun.repl"

/* Stack: the box that owns the struct, the source typed so far (nil = none), the message handler, the stretch
 * of the running statement. */
enum { AT_BOX = 1, AT_SOURCE, AT_HANDLER, AT_STRETCH, AT_TOP = AT_STRETCH };

struct repl {
    struct host *host;
    char *line;                   /* the last line read */
    bool ended;                   /* end of input */
    struct scope_box *evaluation; /* the stretch of the running statement; NULL = none */
    lua_State *L;                 /* the coroutine that it runs in */
};

/* SIGINT cancels the running statement. */
static void on_break(void *data)
{
    struct repl *r = data;
    if (!r->evaluation)
        return;
    signals_insist(r->L);
    stretch_cancel(r->evaluation);
}

static void end_listening(struct repl *r)
{
    signals_interactive(NULL, NULL);
    sched_on_failure(r->host->rt->sched, NULL, NULL);
}

/* A task started at the prompt has failed: reports it at once. */
static void on_failure(lua_State *L, void *data)
{
    struct repl *r = data;
    fflush(stdout);
    lua_pushvalue(L, -1);
    report_error(L, r->host);
    lua_pop(L, 1);
}

static int repl_gc(lua_State *L)
{
    struct repl *r = luaL_checkudata(L, 1, REPL_CLASS);
    end_listening(r);
    free(r->line);
    r->line = NULL;
    return 0;
}

/* ---- reading ---- */

static const char *push_prompt(lua_State *L, bool first)
{
    lua_getglobal(L, first ? "_PROMPT" : "_PROMPT2");
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_pushstring(L, first ? "> " : ">> ");
    }
    return luaL_tolstring(L, -1, NULL);
}

static int read_plain_k(lua_State *L, int status, lua_KContext ctx);

/* On top of the stack: the line; nil at the end of the input. */
static void take_plain(lua_State *L, struct repl *r)
{
    signals_interactive(on_break, r);
    if (lua_isnil(L, -1))
        r->ended = true;
    else if ((r->line = strdup(lua_tostring(L, -1))) == NULL)
        luaL_error(L, "not enough memory");
    lua_settop(L, AT_TOP);
}

/* Reads a line of a stdin that is no terminal, like io.read. Meanwhile SIGINT ends the program, as in lua. */
static void read_plain(lua_State *L, struct repl *r, const char *prompt)
{
    fputs(prompt, stdout);
    fflush(stdout);
    signals_interactive(NULL, NULL);
    lua_callk(L, read_push_reader(L), 1, (lua_KContext)r, read_plain_k);
    take_plain(L, r);
}

/* Adds the line to the source at AT_SOURCE. `=expr` is `return expr` on a first line. */
static void take_line(lua_State *L, struct repl *r)
{
    if (lua_isnil(L, AT_SOURCE) && r->line[0] == '=')
        lua_pushfstring(L, "return %s", r->line + 1);
    else if (lua_isnil(L, AT_SOURCE))
        lua_pushstring(L, r->line);
    else
        lua_pushfstring(L, "%s\n%s", lua_tostring(L, AT_SOURCE), r->line);
    lua_replace(L, AT_SOURCE);
    free(r->line);
    r->line = NULL;
}

static bool is_incomplete(lua_State *L, int status)
{
    static const char mark[] = "<eof>";
    size_t len;
    const char *text = lua_tolstring(L, -1, &len);
    return status == LUA_ERRSYNTAX && text != NULL && len >= sizeof mark - 1 &&
           strcmp(text + len - (sizeof mark - 1), mark) == 0;
}

/* Compiles the source, as an expression if it is one. Leaves the function or the error. */
static int compile(lua_State *L)
{
    size_t len;
    const char *text = lua_pushfstring(L, "return %s", lua_tostring(L, AT_SOURCE));
    if (luaL_loadbuffer(L, text, strlen(text), "=stdin") == LUA_OK) {
        lua_remove(L, -2);
        return LUA_OK;
    }
    lua_pop(L, 2);
    text = lua_tolstring(L, AT_SOURCE, &len);
    return luaL_loadbuffer(L, text, len, "=stdin");
}

/* ---- evaluating ---- */

static int repl_loop(lua_State *L, struct repl *r);

static void show_error(lua_State *L, struct repl *r)
{
    report_push_text(L);
    report_line(NULL, r->host->rt, lua_tostring(L, -1)); /* as in lua, without the program's name */
}

/* Shows the results, which are above AT_TOP. */
static void show_results(lua_State *L, struct repl *r)
{
    int n = lua_gettop(L) - AT_TOP;
    if (n == 0)
        return;
    luaL_checkstack(L, LUA_MINSTACK, "too many results to print");
    lua_getglobal(L, "print");
    lua_insert(L, AT_TOP + 1);
    if (lua_pcall(L, n, 0, 0) != LUA_OK) {
        lua_pushfstring(L, "error calling 'print' (%s)", lua_tostring(L, -1));
        show_error(L, r);
    }
}

/* As in lua: a string gets the traceback, an object with __tostring stays unchanged. */
static int handle_message(lua_State *L)
{
    const struct repl *r = lua_touserdata(L, lua_upvalueindex(1));
    bool interrupted = sched_interrupted(r->host->rt->sched) || stretch_was_cancelled(r->evaluation);
    if (interrupted && report_is_kind(L, 1, "cancelled")) {
        lua_pushliteral(L, "interrupted!");
        return 1;
    }
    const char *text = lua_tostring(L, 1);
    if (text == NULL) {
        if (luaL_callmeta(L, 1, "__tostring") && lua_type(L, -1) == LUA_TSTRING)
            return 1;
        text = lua_pushfstring(L, "(error object is a %s value)", luaL_typename(L, 1));
    }
    luaL_traceback(L, L, text, 1);
    return 1;
}

/* Shows the result of the statement, or its error. */
static void show(lua_State *L, struct repl *r, int status)
{
    struct sched *s = r->host->rt->sched;
    stretch_leave(r->evaluation);
    r->evaluation = NULL;
    signals_typed(false);
    if (status == LUA_OK || status == LUA_YIELD)
        show_results(L, r);
    else
        show_error(L, r);
    lua_settop(L, AT_TOP);
    if (sched_interrupted(s))
        sched_raise_interrupted(L, s);
}

static int evaluate_k(lua_State *L, int status, lua_KContext ctx)
{
    struct repl *r = (struct repl *)ctx;
    show(L, r, status);
    return repl_loop(L, r);
}

/* Runs the function on top of the stack. */
static void evaluate(lua_State *L, struct repl *r)
{
    r->evaluation = stretch_enter(L, r->host->rt->sched);
    r->L = L;
    signals_typed(true);
    lua_replace(L, AT_STRETCH);
    show(L, r, lua_pcallk(L, 0, LUA_MULTRET, AT_HANDLER, (lua_KContext)r, evaluate_k));
}

/* ---- the loop ---- */

static void take_statement(lua_State *L, struct repl *r)
{
    take_line(L, r);
    int status = compile(L);
    if (is_incomplete(L, status)) {
        lua_settop(L, AT_TOP);
        return;
    }
    lua_pushnil(L);
    lua_replace(L, AT_SOURCE);
    if (status == LUA_OK)
        evaluate(L, r);
    else
        show_error(L, r);
    lua_settop(L, AT_TOP);
}

static int repl_loop(lua_State *L, struct repl *r)
{
    for (;;) {
        if (r->line == NULL && !r->ended) {
            read_plain(L, r, push_prompt(L, lua_isnil(L, AT_SOURCE)));
            lua_settop(L, AT_TOP);
        }
        if (r->ended)
            break;
        take_statement(L, r);
    }
    end_listening(r);
    fputc('\n', stdout);
    return 0;
}

static int read_plain_k(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    struct repl *r = (struct repl *)ctx;
    take_plain(L, r);
    return repl_loop(L, r);
}

int repl_main(lua_State *L, struct host *h)
{
    lua_settop(L, 0);
    struct repl *r = lua_newuserdatauv(L, sizeof *r, 0);
    *r = (struct repl){.host = h};
    if (luaL_newmetatable(L, REPL_CLASS)) {
        lua_pushcfunction(L, repl_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, AT_BOX);
    lua_settop(L, AT_TOP);
    lua_pushlightuserdata(L, r);
    lua_pushcclosure(L, handle_message, 1);
    lua_replace(L, AT_HANDLER);
    signals_interactive(on_break, r);
    sched_on_failure(h->rt->sched, on_failure, r);
    return repl_loop(L, r);
}
