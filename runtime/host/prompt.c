/*
 * The root task waits for the terminal on the loop, so other tasks go on while the user types. Statements run
 * in a stretch that Ctrl-C cancels: see evaluate.h.
 *
 *   terminal:read --line, paste, Ctrl-C or end--> Lua --terminal:evaluate--> Lua --terminal:read--> ...
 */
#include "host/prompt.h"

#include "base/deadline.h"
#include "bind/base/args.h"
#include "host/editline.h"
#include "host/evaluate.h"
#include "host/keys.h"
#include "host/modes.h"
#include "host/read.h"
#include "host/signals.h"
#include "host/suspend.h"
#include "host/terminal.h"
#include "io/stream.h"
#include "io/watch.h"

#include <fcntl.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CLASS "dbrun.terminal"

/* The user value of the object: the function for the Tab key. */
enum { VALUE_COMPLETE = 1, VALUES = VALUE_COMPLETE };

struct prompt {
    struct host *host;
    struct io_watch *input; /* NULL: no libedit, or no separate descriptor of the terminal */
    const struct editline *edit;
    struct suspend *suspend;
    struct wait *waiter; /* the root task's wait, while it can be woken */
    struct keys keys;
    struct buf paste;
    lua_State *L;                 /* the Lua state that feeds characters to libedit; NULL = none */
    int tty;                      /* the descriptor that the loop watches */
    char *line;                   /* what libedit delivered */
    bool editing;                 /* libedit has the terminal */
    bool marks;                   /* the terminal was asked to mark pastes */
    bool exact;                   /* reads of stdin take only what they need */
    bool bound;                   /* the Tab key is bound */
    bool ended;                   /* end of input */
    bool broken;                  /* Ctrl-C was pressed */
    struct evaluation evaluation; /* of what was typed */
};

static struct prompt *edited; /* libedit's callbacks have no argument */

static struct prompt *check(lua_State *L)
{
    return luaL_checkudata(L, 1, CLASS);
}

/* ---- the terminal ---- */

static void wake(struct prompt *p)
{
    struct wait *w = p->waiter;
    p->waiter = NULL;
    wait_wake(w);
}

static void on_input(void *data, unsigned events)
{
    (void)events;
    wake(data);
}

/* Ctrl-C: cancels what runs, or drops the typed text. */
static void on_break(void *data)
{
    struct prompt *p = data;
    if (evaluate_is_running(&p->evaluation)) {
        evaluate_cancel(&p->evaluation);
        return;
    }
    p->broken = true;
    wake(p);
}

static void forget_wait(struct wait *w)
{
    struct prompt *p = w->data;
    p->waiter = NULL;
}

static void print(const char *text)
{
    fputs(text, stdout);
    fflush(stdout);
}

/* Asks the terminal to mark pasted text. */
static void mark_pastes(struct prompt *p, bool on)
{
    const char *term = getenv("TERM");
    if (term == NULL || strcmp(term, "dumb") == 0 || !isatty(STDOUT_FILENO) || p->marks == on)
        return;
    p->marks = on;
    print(on ? "\033[?2004h" : "\033[?2004l");
}

static void stop_editing(struct prompt *p)
{
    if (!p->editing)
        return;
    p->editing = false;
    suspend_unwatch(p->suspend);
    mark_pastes(p, false);
    p->edit->remove(); /* restores the terminal's ordinary modes */
    modes_forget();
    io_watch_want(p->input, 0);
    terminal_release();
}

/* ---- the Tab key ---- */

/* Stack: the terminal. Returns what its function for the Tab key returns. */
static int call_complete(lua_State *L)
{
    struct prompt *p = check(L);
    if (lua_getiuservalue(L, 1, VALUE_COMPLETE) != LUA_TFUNCTION || *p->edit->text == NULL)
        return 0;
    lua_pushstring(L, *p->edit->text);
    lua_pushinteger(L, *p->edit->point);
    lua_call(L, 2, 3);
    return 3;
}

/* Stack: ..., the number of characters to erase before the cursor, the text to insert there, and the text to
 * print above the prompt. */
static void take_completion(lua_State *L, struct prompt *p)
{
    size_t len;
    if (lua_type(L, -2) == LUA_TSTRING) {
        const char *text = lua_tolstring(L, -2, &len);
        keys_queue(&p->keys, (int)lua_tointeger(L, -3), text, len);
    }
    if (lua_type(L, -1) == LUA_TSTRING) {
        fputc('\n', stdout);
        print(lua_tostring(L, -1));
        p->edit->redraw();
    }
}

/* Called by libedit, through which an error must not longjmp. The function cannot wait: trying to is an
 * error, too. After an error the key does nothing. */
static int on_tab(int count, int key)
{
    (void)count;
    (void)key;
    struct prompt *p = edited;
    lua_State *L = p->L;
    if (L == NULL || !lua_checkstack(L, LUA_MINSTACK))
        return 0;
    int top = lua_gettop(L);
    lua_pushcfunction(L, call_complete);
    lua_pushvalue(L, 1);
    if (lua_pcall(L, 1, 3, 0) == LUA_OK)
        take_completion(L, p);
    lua_settop(L, top);
    return 0;
}

/* ---- editing ---- */

static int next_key(FILE *in)
{
    (void)in;
    return keys_next(&edited->keys);
}

static void on_line(char *line)
{
    edited->line = line;
    edited->ended = line == NULL;
    stop_editing(edited);
}

static void start_editing(struct prompt *p, const char *prompt)
{
    edited = p;
    p->editing = true;
    p->exact = p->exact || stream_read_exactly(stdin);
    terminal_hold(p->tty);
    modes_keep(p->tty);
    io_watch_want(p->input, IO_READ);
    mark_pastes(p, true);
    p->edit->begin();
    if (!p->bound)
        p->bound = p->edit->bind("dbrun-complete", on_tab, '\t') == 0;
    /* Before the prompt shows: otherwise a line typed ahead ends with CR in a read, which never ends then. */
    p->edit->configure("setty -d -inlcr");
    p->edit->install(prompt, on_line);
    suspend_watch(p->suspend);
}

/* A task started at the prompt has failed: reports it at once, and shows the prompt again with the typed
 * text. */
static void on_failure(lua_State *L, void *data)
{
    struct prompt *p = data;
    if (p->editing)
        fputc('\n', stdout);
    fflush(stdout);
    lua_pushvalue(L, -1);
    report_error(L, p->host);
    lua_pop(L, 1);
    if (p->editing)
        p->edit->redraw();
}

static void close_terminal(struct prompt *p)
{
    if (edited == p)
        edited = NULL;
    signals_interactive(NULL, NULL);
    sched_on_failure(p->host->rt->sched, NULL, NULL);
    stop_editing(p);
    suspend_close(p->suspend);
    p->suspend = NULL;
    io_watch_close(p->input);
    p->input = NULL;
    if (p->tty >= 0)
        close(p->tty);
    p->tty = -1;
    free(p->line);
    p->line = NULL;
    keys_free(&p->keys);
    buf_free(&p->paste);
}

static int prompt_gc(lua_State *L)
{
    close_terminal(check(L));
    return 0;
}

/* ---- reading ---- */

/* set_complete(fn): fn(line, bytes before the cursor) -> characters to erase before it, text, listing */
static int prompt_set_complete(lua_State *L)
{
    check(L);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_settop(L, 2);
    lua_setiuservalue(L, 1, VALUE_COMPLETE);
    return 0;
}

/* Takes a text that was pasted into the edited line. Without a line end it is inserted; otherwise libedit
 * ends the line, and Lua gets all of it. */
static bool take_paste(struct prompt *p)
{
    struct buf *b = &p->paste;
    while (b->len > 0 && b->data[b->len - 1] == '\n')
        b->data[--b->len] = '\0';
    if (b->len == 0 || b->oom)
        return false;
    if (memchr(b->data, '\n', b->len) != NULL)
        return true;
    keys_type(&p->keys, b->data, b->len);
    return false;
}

/* Stack: ...; pushes the text before the paste, the paste, and the text after the cursor. */
static int push_paste(lua_State *L, struct prompt *p)
{
    const char *text = *p->edit->text != NULL ? *p->edit->text : "";
    size_t len = strlen(text);
    size_t at = *p->edit->point > 0 && (size_t)*p->edit->point < len ? (size_t)*p->edit->point : len;
    if (*p->edit->point == 0)
        at = 0;
    lua_pushlstring(L, text, at);
    lua_pushlstring(L, p->paste.data, p->paste.len);
    lua_pushstring(L, text + at);
    /* libedit must be left by an Enter: if removed in between, its next line would not be in raw mode. */
    keys_type(&p->keys, p->paste.data, strcspn(p->paste.data, "\n"));
    keys_queue(&p->keys, 0, "\r", 1);
    while (p->editing && keys_queued(&p->keys))
        p->edit->read_char();
    stop_editing(p);
    free(p->line);
    p->line = NULL;
    return 3;
}

/* Passes what has come to libedit: the characters of one key, or a paste. True: there is a paste for Lua. */
static bool take_keys(lua_State *L, struct prompt *p)
{
    if (keys_look(&p->keys, &p->paste) == KEYS_PASTE && take_paste(p))
        return true;
    p->L = L;
    while (p->editing && keys_queued(&p->keys))
        p->edit->read_char();
    p->L = NULL;
    p->ended = p->ended || p->keys.ended;
    return false;
}

static int prompt_read_k(lua_State *L, int status, lua_KContext ctx);

static int park(lua_State *L, struct prompt *p)
{
    struct sched *s = p->host->rt->sched;
    task_check_park(L, s);
    p->waiter = wait_begin(s, DEADLINE_NEVER, forget_wait, p);
    return wait_park(L, p->waiter, (lua_KContext)p, prompt_read_k);
}

static int go_on(lua_State *L, struct prompt *p)
{
    if (p->broken) {
        p->broken = false;
        stop_editing(p);
        lua_pushboolean(L, false);
        return 1;
    }
    if (p->line != NULL) {
        lua_pushstring(L, p->line);
        free(p->line);
        p->line = NULL;
        return 1;
    }
    if (p->ended) {
        stop_editing(p);
        lua_pushnil(L);
        return 1;
    }
    if (!p->editing)
        start_editing(p, lua_tostring(L, 2));
    return park(L, p);
}

static int prompt_read_k(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    struct prompt *p = (struct prompt *)ctx;
    struct sched *s = p->host->rt->sched;
    if (wait_end(s) == WAIT_CANCELLED) {
        if (p->editing)
            fputc('\n', stdout); /* begin a new line */
        stop_editing(p);
        return task_raise_cancelled(L, s);
    }
    if (p->editing && !p->broken && take_keys(L, p))
        return push_paste(L, p);
    return go_on(L, p);
}

/* read(prompt): edits a line. Returns the line; nil at the end of the input; false after Ctrl-C; or, when
 * several lines were pasted, the text before the cursor, the paste, and the text after the cursor. */
static int prompt_read(lua_State *L)
{
    struct prompt *p = check(L);
    luaL_checkstring(L, 2);
    lua_settop(L, 2);
    if (p->input == NULL)
        return luaL_error(L, "the terminal cannot be edited: read it with io.read");
    return go_on(L, p);
}

/* ---- other functions for Lua ---- */

/* evaluate(fn, ...) -> true and its results; or false, the error (a text with the traceback, or the error
 * object), and whether Ctrl-C ended it. */
static int prompt_evaluate(lua_State *L)
{
    struct prompt *p = check(L);
    luaL_checkany(L, 2);
    return evaluate(L, &p->evaluation);
}

/* is_edited() -> true when libedit edits the lines */
static int prompt_is_edited(lua_State *L)
{
    lua_pushboolean(L, check(L)->input != NULL);
    return 1;
}

/* remember(text): adds it to the history of the arrow keys */
static int prompt_remember(lua_State *L)
{
    struct prompt *p = check(L);
    const char *text = luaL_checkstring(L, 2);
    if (p->input != NULL)
        p->edit->add_history(text);
    return 0;
}

/* report(text): prints a line on stderr, with secrets masked */
static int prompt_report(lua_State *L)
{
    struct prompt *p = check(L);
    lua_settop(L, 2);
    report_push_text(L);
    fflush(stdout);
    report_line(NULL, p->host->rt, lua_tostring(L, -1));
    return 0;
}

static int prompt_close(lua_State *L)
{
    close_terminal(check(L));
    return 0;
}

/* The loop watches a second descriptor of the terminal: watching makes a descriptor non-blocking, which would
 * affect stdout and the shell if they shared it. Without one, or without libedit, lines are read from
 * stdin. */
static void open_terminal(struct prompt *p)
{
    char name[PATH_MAX];
    p->edit = editline_open(next_key);
    if (p->edit == NULL || ttyname_r(STDIN_FILENO, name, sizeof name) != 0)
        return;
    p->tty = open(name, O_RDONLY | O_NOCTTY | O_CLOEXEC);
    if (p->tty < 0)
        return;
    p->input = io_watch_open(sched_loop(p->host->rt->sched), p->tty, on_input, p);
    p->suspend = suspend_open(sched_loop(p->host->rt->sched), p->edit);
    setlocale(LC_CTYPE, ""); /* libedit needs the character encoding */
}

static const luaL_Reg methods[] = {
    {"read", prompt_read},           {"evaluate", prompt_evaluate},
    {"is_edited", prompt_is_edited}, {"remember", prompt_remember},
    {"report", prompt_report},       {"set_complete", prompt_set_complete},
    {"close", prompt_close},         {NULL, NULL},
};

bool prompt_has_terminal(void)
{
    return isatty(STDIN_FILENO) != 0;
}

void prompt_push(lua_State *L, struct host *h)
{
    struct prompt *p = lua_newuserdatauv(L, sizeof *p, VALUES);
    *p = (struct prompt){.host = h, .tty = -1, .evaluation = {.host = h, .method = prompt_evaluate}};
    if (luaL_newmetatable(L, CLASS)) {
        lua_pushcfunction(L, prompt_gc);
        lua_setfield(L, -2, "__gc");
        luaL_newlib(L, methods);
        lua_setfield(L, -2, "__index");
    }
    lua_setmetatable(L, -2);
    open_terminal(p);
    signals_interactive(on_break, p);
    sched_on_failure(h->rt->sched, on_failure, p);
}
