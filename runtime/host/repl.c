/*
 * The prompt. The root task waits for the terminal on the loop, so other tasks go on while the user types.
 * It runs each statement itself, under lua_pcallk, in a stretch that Ctrl-C cancels.
 *
 *   READ --a whole statement--> EVALUATE --it ended--> READ     end of input: the REPL returns
 *     ^--incomplete: more lines-|
 */
#include "base/deadline.h"
#include "host/editline.h"
#include "host/host.h"
#include "host/modes.h"
#include "host/read.h"
#include "host/signals.h"
#include "host/suspend.h"
#include "host/terminal.h"
#include "io/stream.h"
#include "io/watch.h"

#include <fcntl.h>
#include <locale.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REPL_CLASS "dbrun.repl"

/* Stack: the box that owns this, the source typed so far (nil = none), the message handler, the stretch of
 * the statement that runs. */
enum { AT_BOX = 1, AT_SOURCE, AT_HANDLER, AT_STRETCH, AT_TOP = AT_STRETCH };

struct repl {
    struct host *host;
    struct io_watch *input; /* NULL: read stdin as io.read does, it is no terminal */
    const struct editline *edit;
    struct suspend *suspend;
    struct wait *waiter;          /* the root task's, while it can be woken */
    int tty;                      /* what the loop watches */
    char *line;                   /* what libedit delivered */
    bool editing;                 /* libedit has the terminal */
    bool exact;                   /* reads of stdin leave to it what they do not need */
    bool ended;                   /* end of input */
    bool broken;                  /* Ctrl-C */
    struct scope_box *evaluation; /* of the statement that runs; NULL = none */
};

static struct repl *edited; /* libedit's callback has no argument */

/* ---- the terminal ---- */

static void wake(struct repl *r)
{
    struct wait *w = r->waiter;
    r->waiter = NULL;
    wait_wake(w);
}

static void on_input(void *data, unsigned events)
{
    (void)events;
    wake(data);
}

/* Ctrl-C: ends the statement that runs, or drops the typed text. */
static void on_break(void *data)
{
    struct repl *r = data;
    if (r->evaluation) {
        stretch_cancel(r->evaluation);
        return;
    }
    r->broken = true;
    wake(r);
}

static void forget_wait(struct wait *w)
{
    struct repl *r = w->data;
    r->waiter = NULL;
}

static void stop_editing(struct repl *r)
{
    if (!r->editing)
        return;
    r->editing = false;
    suspend_unwatch(r->suspend);
    r->edit->remove(); /* gives the terminal its ordinary modes back */
    modes_forget();
    io_watch_want(r->input, 0);
    terminal_release();
}

static void on_line(char *line)
{
    edited->line = line;
    edited->ended = line == NULL;
    stop_editing(edited);
}

static void start_editing(struct repl *r, const char *prompt)
{
    edited = r;
    r->editing = true;
    r->exact = r->exact || stream_read_exactly(stdin);
    terminal_hold(r->tty);
    modes_keep(r->tty);
    io_watch_want(r->input, IO_READ);
    r->edit->install(prompt, on_line);
    r->edit->configure("setty -d -inlcr"); /* else a read would get a line typed ahead with CR at its end */
    suspend_watch(r->suspend);
}

/* A task started at the prompt has failed: reports it at once, and shows the prompt again with what is typed.
 */
static void on_failure(lua_State *L, void *data)
{
    struct repl *r = data;
    if (r->editing)
        fputc('\n', stdout);
    fflush(stdout);
    lua_pushvalue(L, -1);
    report_error(L, r->host);
    lua_pop(L, 1);
    if (r->editing)
        r->edit->redraw();
}

static void end_listening(struct repl *r)
{
    signals_interactive(NULL, NULL);
    sched_on_failure(r->host->rt->sched, NULL, NULL);
}

static int repl_gc(lua_State *L)
{
    struct repl *r = luaL_checkudata(L, 1, REPL_CLASS);
    end_listening(r);
    stop_editing(r);
    suspend_close(r->suspend);
    r->suspend = NULL;
    io_watch_close(r->input);
    r->input = NULL;
    if (r->tty >= 0)
        close(r->tty);
    r->tty = -1;
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

/* On top of the stack: the line, nil at the end of the input. */
static void take_plain(lua_State *L, struct repl *r)
{
    signals_interactive(on_break, r);
    if (lua_isnil(L, -1))
        r->ended = true;
    else if ((r->line = strdup(lua_tostring(L, -1))) == NULL)
        luaL_error(L, "not enough memory");
    lua_settop(L, AT_TOP);
}

/* Reads a line of a stdin that is no terminal, as io.read does. Meanwhile SIGINT ends the program, as in lua.
 */
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

static void remember_source(lua_State *L, const struct repl *r)
{
    const char *text = lua_tostring(L, AT_SOURCE);
    if (r->input != NULL && text[0] != '\0')
        r->edit->add_history(text);
}

/* ---- evaluating ---- */

static int repl_loop(lua_State *L, struct repl *r);

static void show_error(lua_State *L, struct repl *r)
{
    report_push_text(L);
    report_line(NULL, r->host->rt, lua_tostring(L, -1)); /* as in lua, without the program's name */
}

/* At a terminal the text of a result is escaped: it may come from a server. */
static void make_printable(lua_State *L, int index)
{
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_getfield(L, -1, "dbrun.core");
    lua_getfield(L, -1, "tty");
    lua_getfield(L, -1, "printable");
    lua_pushvalue(L, index);
    lua_call(L, 1, 1);
    lua_replace(L, index);
    lua_pop(L, 3);
}

/* They stand above AT_TOP. */
static void show_results(lua_State *L, struct repl *r)
{
    int n = lua_gettop(L) - AT_TOP;
    if (n == 0)
        return;
    luaL_checkstack(L, LUA_MINSTACK, "too many results to print");
    for (int i = AT_TOP + 1; i <= AT_TOP + n; i++)
        if (r->input != NULL && lua_type(L, i) == LUA_TSTRING)
            make_printable(L, i);
    lua_getglobal(L, "print");
    lua_insert(L, AT_TOP + 1);
    if (lua_pcall(L, n, 0, 0) != LUA_OK) {
        lua_pushfstring(L, "error calling 'print' (%s)", lua_tostring(L, -1));
        show_error(L, r);
    }
}

/* As in lua: a string gets the traceback, an object with __tostring stays as it is. */
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

/* Shows what came of the statement. */
static void show(lua_State *L, struct repl *r, int status)
{
    struct sched *s = r->host->rt->sched;
    stretch_leave(r->evaluation);
    r->evaluation = NULL;
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
    lua_replace(L, AT_STRETCH);
    show(L, r, lua_pcallk(L, 0, LUA_MULTRET, AT_HANDLER, (lua_KContext)r, evaluate_k));
}

/* ---- the loop ---- */

static int repl_k(lua_State *L, int status, lua_KContext ctx);

static int park(lua_State *L, struct repl *r)
{
    struct sched *s = r->host->rt->sched;
    task_check_park(L, s);
    r->waiter = wait_begin(s, DEADLINE_NEVER, forget_wait, r);
    return wait_park(L, r->waiter, (lua_KContext)r, repl_k);
}

/* Ctrl-C: drops the typed text. */
static void handle_break(lua_State *L, struct repl *r)
{
    r->broken = false;
    stop_editing(r);
    fputc('\n', stdout);
    lua_pushnil(L);
    lua_replace(L, AT_SOURCE);
}

/* True when the line is there or the input has ended; false: wait for more. */
static bool read_line(lua_State *L, struct repl *r)
{
    const char *prompt = push_prompt(L, lua_isnil(L, AT_SOURCE));
    if (r->input == NULL)
        read_plain(L, r, prompt);
    else if (!r->editing)
        start_editing(r, prompt);
    lua_settop(L, AT_TOP);
    return r->line != NULL || r->ended;
}

static void take_statement(lua_State *L, struct repl *r)
{
    take_line(L, r);
    int status = compile(L);
    if (is_incomplete(L, status)) {
        lua_settop(L, AT_TOP);
        return;
    }
    remember_source(L, r);
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
        if (r->broken)
            handle_break(L, r);
        if (r->line == NULL && !r->ended && !read_line(L, r))
            return park(L, r);
        if (r->ended)
            break;
        take_statement(L, r);
    }
    end_listening(r);
    stop_editing(r);
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

static int repl_k(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    struct repl *r = (struct repl *)ctx;
    struct sched *s = r->host->rt->sched;
    if (wait_end(s) == WAIT_CANCELLED) {
        if (r->editing)
            fputc('\n', stdout); /* begin a new line */
        stop_editing(r);
        return task_raise_cancelled(L, s);
    }
    if (r->editing && !r->broken)
        r->edit->read_char();
    return repl_loop(L, r);
}

/* The loop watches a second descriptor of the terminal: watching makes it non-blocking, which would affect
 * stdout and the shell if they shared it. Without one, or without libedit, lines are read from stdin. */
static void open_terminal(struct repl *r)
{
    char name[PATH_MAX];
    r->edit = editline_open();
    if (r->edit == NULL || ttyname_r(STDIN_FILENO, name, sizeof name) != 0)
        return;
    r->tty = open(name, O_RDONLY | O_NOCTTY | O_CLOEXEC);
    if (r->tty < 0)
        return;
    r->input = io_watch_open(sched_loop(r->host->rt->sched), r->tty, on_input, r);
    r->suspend = suspend_open(sched_loop(r->host->rt->sched), r->edit);
    setlocale(LC_CTYPE, ""); /* libedit needs the encoding of characters */
}

int repl_main(lua_State *L, struct host *h)
{
    lua_settop(L, 0);
    struct repl *r = lua_newuserdatauv(L, sizeof *r, 0);
    *r = (struct repl){.host = h, .tty = -1};
    if (luaL_newmetatable(L, REPL_CLASS)) {
        lua_pushcfunction(L, repl_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, AT_BOX);
    lua_settop(L, AT_TOP);
    lua_pushlightuserdata(L, r);
    lua_pushcclosure(L, handle_message, 1);
    lua_replace(L, AT_HANDLER);
    if (isatty(STDIN_FILENO))
        open_terminal(r);
    signals_interactive(on_break, r);
    sched_on_failure(h->rt->sched, on_failure, r);
    return repl_loop(L, r);
}
