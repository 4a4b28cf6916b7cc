#include "bind/os/process.h"

#include "base/deadline.h"
#include "bind/base/error.h"
#include "bind/base/fields.h"
#include "bind/os/child.h"
#include "bind/os/child_write.h"
#include "bind/os/system.h"
#include "task/traced.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SET_CLASS "dbrun.children"

/* ---- the child_set of this Lua state, made at the first start ---- */

struct set_box {
    struct child_set *set;
};

static int set__gc(lua_State *L)
{
    struct set_box *box = luaL_checkudata(L, 1, SET_CLASS);
    if (box->set)
        child_set_close(box->set);
    box->set = NULL;
    return 0;
}

static struct child_set *the_set(lua_State *L, struct runtime *rt)
{
    static const char key;
    struct set_box *box;
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &key) == LUA_TUSERDATA) {
        box = lua_touserdata(L, -1);
    } else {
        box = lua_newuserdatauv(L, sizeof(*box), 0);
        box->set = NULL;
        luaL_setmetatable(L, SET_CLASS);
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &key);
        lua_remove(L, -2);
    }
    if (!box->set)
        box->set = child_set_new(rt->sched);
    if (!box->set)
        bind_fail(L, rt, ERROR_IO, "cannot watch for child processes: %s", strerror(errno));
    lua_pop(L, 1);
    return box->set;
}

/* ---- a spec's table -> struct spawn; Lua owns all memory ---- */

static const char *check_text(lua_State *L, struct runtime *rt, int idx, const char *what)
{
    size_t len;
    const char *s = lua_type(L, idx) == LUA_TSTRING ? lua_tolstring(L, idx, &len) : NULL;
    if (!s)
        bind_fail(L, rt, ERROR_USAGE, "process: %s must be strings", what);
    else if (strlen(s) != len)
        bind_fail(L, rt, ERROR_USAGE, "process: %s must not contain NUL bytes", what);
    return s;
}

/* The list in the field, as a NULL-terminated array; NULL when the field is nil. Leaves one value on the
 * stack. The strings belong to the list. */
static char **string_list(lua_State *L, struct runtime *rt, const char *field)
{
    if (lua_getfield(L, 1, field) == LUA_TNIL)
        return NULL;
    luaL_checktype(L, -1, LUA_TTABLE);
    int n = (int)lua_rawlen(L, -1);
    char **list = lua_newuserdatauv(L, ((size_t)n + 1) * sizeof(*list), 0);
    for (int i = 0; i < n; i++) {
        lua_rawgeti(L, -2, i + 1);
        list[i] = (char *)check_text(L, rt, -1, field);
        lua_pop(L, 1);
    }
    list[n] = NULL;
    lua_remove(L, -2);
    return list;
}

static const char *text_field(lua_State *L, struct runtime *rt, const char *field)
{
    const char *s = NULL;
    if (lua_getfield(L, 1, field) != LUA_TNIL)
        s = check_text(L, rt, -1, field);
    lua_pop(L, 1); /* the spec's table keeps it alive */
    return s;
}

static void ids_of(lua_State *L, struct spawn *s)
{
    s->set_ids = lua_getfield(L, 1, "uid") != LUA_TNIL;
    lua_pop(L, 1);
    if (!s->set_ids)
        return;
    s->uid = (uid_t)field_integer(L, 1, "uid", 0);
    s->gid = (gid_t)field_integer(L, 1, "gid", 0);
    lua_getfield(L, 1, "groups");
    luaL_checktype(L, -1, LUA_TTABLE);
    s->ngroups = (size_t)lua_rawlen(L, -1);
    gid_t *groups = lua_newuserdatauv(L, (s->ngroups + 1) * sizeof(*groups), 0);
    for (size_t i = 0; i < s->ngroups; i++) {
        lua_rawgeti(L, -2, (lua_Integer)i + 1);
        groups[i] = (gid_t)luaL_checkinteger(L, -1);
        lua_pop(L, 1);
    }
    s->groups = groups;
}

static void spawn_of(lua_State *L, struct runtime *rt, struct spawn *s)
{
    static const char *const streams[] = {"stdin", "stdout", "stderr"};
    static const char *const paths[] = {"stdin_path", "stdout_path", "stderr_path"};
    static const char *const ways[] = {"inherit", "null", "pipe", "file", "append", "stdout", NULL};
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    *s = (struct spawn){.argv = string_list(L, rt, "argv"), .envp = string_list(L, rt, "env")};
    if (!s->argv || !s->argv[0])
        bind_fail(L, rt, ERROR_USAGE, "process: the name of the program is missing");
    s->cwd = text_field(L, rt, "cwd");
    for (int i = 0; i < 3; i++) {
        lua_getfield(L, 1, streams[i]);
        s->io[i] = (enum spawn_io)luaL_checkoption(L, -1, "inherit", ways);
        s->path[i] = text_field(L, rt, paths[i]);
    }
    s->new_session = field_boolean(L, 1, "detached", false);
    s->pdeathsig = (int)field_integer(L, 1, "pdeathsig", 0);
    ids_of(L, s);
}

/* ---- the handle ---- */

static const char *const wants[] = {"end", "exit", "line", NULL}; /* as enum child_want */

static struct child *child_check(lua_State *L)
{
    struct child_handle *h = child_handle_check(L);
    if (!h->child)
        bind_fail(L, bind_runtime(L), ERROR_USAGE, "process: the handle of this child is closed");
    return h->child;
}

static int child__gc(lua_State *L)
{
    struct child_handle *h = child_handle_check(L);
    struct child *c = h->child;
    h->child = NULL;
    if (c)
        child_release(c);
    return 0;
}

/* start(spec) -> handle */
static int process_start(lua_State *L)
{
    struct runtime *rt = bind_runtime(L);
    struct spawn s;
    struct error e = {0};
    spawn_of(L, rt, &s);
    struct child_options opts = {.detached = s.new_session,
                                 .paced = field_boolean(L, 1, "paced", false),
                                 .limit = (size_t)field_integer(L, 1, "limit", 0)};
    struct child_set *set = the_set(L, rt);
    struct child_handle *h = lua_newuserdatauv(L, sizeof(*h), 1);
    h->child = NULL;
    luaL_setmetatable(L, CHILD_CLASS);
    /* When the state is closed, the set must outlive its handles: it was made first, and finalisers run in
     * reverse order. */
    h->child = child_start(set, &s, &opts, &e);
    if (!h->child)
        return bind_error_raise(L, rt, &e);
    return 1;
}

/* exec(spec): replaces this process, or raises */
static int process_exec(lua_State *L)
{
    struct runtime *rt = bind_runtime(L);
    struct spawn s;
    struct error e = {0};
    spawn_of(L, rt, &s);
    spawn_exec(&s, &e);
    return bind_error_raise(L, rt, &e);
}

static int child_waited(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    (void)ctx;
    struct runtime *rt = bind_runtime(L);
    enum wait_status how = wait_end(rt->sched);
    if (how == WAIT_CANCELLED)
        return task_raise_cancelled(L, rt->sched);
    child_check(L); /* another task may have closed the handle */
    lua_pushboolean(L, how == WAIT_DONE);
    return 1;
}

/* handle:wait(what, seconds|nil) -> true, or false after that time. what: "end" (ended, all output read),
 * "exit" (ended), "line" (a line of stdout, or its end) */
static int handle_wait(lua_State *L)
{
    struct runtime *rt = bind_runtime(L);
    enum child_want want = (enum child_want)luaL_checkoption(L, 2, "end", wants);
    uint64_t deadline = lua_isnoneornil(L, 3) ? DEADLINE_NEVER : deadline_in(luaL_checknumber(L, 3));
    struct child *c = child_check(L);
    if (child_has(c, want)) {
        child_ask(c, want);
        lua_pushboolean(L, 1);
        return 1;
    }
    if (child_is_awaited(c, want))
        return bind_fail(L, rt, ERROR_USAGE, "process: another task waits for this child already");
    task_check_park(L, rt->sched);
    struct wait *w = wait_begin(rt->sched, deadline, child_abandon, c);
    child_ask(c, want);
    child_wait(c, want, w);
    wait_told(L, rt->sched, w, TRACE_WAIT, "child");
    return wait_park(L, w, (lua_KContext)w, child_waited);
}

static int handle_pid(lua_State *L)
{
    lua_pushinteger(L, child_check(L)->pid);
    return 1;
}

/* handle:status() -> nil while it runs; exit code, nil; or nil, number of the signal that ended it */
static int handle_status(lua_State *L)
{
    struct child *c = child_check(L);
    if (!c->exited)
        return 0;
    if (c->status < 0)
        return bind_fail(L, bind_runtime(L), ERROR_IO,
                         "other code in this program took the exit status of process %d", (int)c->pid);
    if (WIFSIGNALED(c->status)) {
        lua_pushnil(L);
        lua_pushinteger(L, WTERMSIG(c->status));
        return 2;
    }
    lua_pushinteger(L, WEXITSTATUS(c->status));
    return 1;
}

static const char *first_line(struct child *c, int stream, size_t *len)
{
    (void)stream;
    return child_line(c, len);
}

/* Takes what `look` returns and pushes it. While room for it is allocated, a finaliser of the script can also
 * take something, or close the handle: so `look` is called again. */
static int push_taken(lua_State *L, int stream, const char *(*look)(struct child *c, int stream, size_t *len))
{
    luaL_Buffer b;
    size_t len, room;
    char *copy;
    const char *text;
    do {
        look(child_check(L), stream, &room);
        copy = luaL_buffinitsize(L, &b, room);
        text = look(child_check(L), stream, &len);
    } while (len > room);
    memcpy(copy, text, len);
    child_take(child_check(L), stream, len);
    luaL_pushresultsize(&b, len);
    return 1;
}

/* handle:over(what|nil) -> nothing; or 1 or 2 when that output is over its limit, and the `what` (see wait).
 * Default: what a task last asked for */
static int handle_over(lua_State *L)
{
    struct child *c = child_check(L);
    enum child_want want = c->asked;
    if (!lua_isnoneornil(L, 2))
        want = (enum child_want)luaL_checkoption(L, 2, NULL, wants);
    int stream = child_over(c, want);
    if (!stream)
        return 0;
    lua_pushinteger(L, stream);
    lua_pushstring(L, wants[want]);
    return 2;
}

/* handle:output(1|2) -> the captured output that was not taken yet */
static int handle_output(lua_State *L)
{
    struct child *c = child_check(L);
    lua_Integer stream = luaL_checkinteger(L, 2);
    luaL_argcheck(L, stream == 1 || stream == 2, 2, "1 or 2 expected");
    if (child_lost_output(c))
        return luaL_error(L, "not enough memory");
    return push_taken(L, (int)stream, child_output);
}

/* handle:line() -> the first line of stdout with its end, or nil */
static int handle_line(lua_State *L)
{
    size_t len;
    child_line(child_check(L), &len);
    if (len == 0)
        return 0;
    push_taken(L, 1, first_line);
    return lua_rawlen(L, -1) > 0;
}

/* handle:kill(number) -> false when it has already ended */
static int handle_kill(lua_State *L)
{
    struct child *c = child_check(L);
    int sig = (int)luaL_checkinteger(L, 2);
    bool sent = child_kill(c, sig);
    if (!sent && errno != ESRCH)
        return bind_fail(L, bind_runtime(L), ERROR_IO, "cannot send signal %d to process %d: %s", sig,
                         (int)c->pid, strerror(errno));
    lua_pushboolean(L, sent);
    return 1;
}

/* handle:terminate(): SIGTERM, SIGKILL after the grace; discards its output */
static int handle_terminate(lua_State *L)
{
    child_discard(child_check(L));
    child_terminate(child_check(L));
    return 0;
}

int bind_process_open(lua_State *L, struct runtime *rt)
{
    static const luaL_Reg set_meta[] = {{"__gc", set__gc}, {NULL, NULL}};
    static const luaL_Reg child_meta[] = {{"__gc", child__gc}, {"__close", child__gc}, {NULL, NULL}};
    static const luaL_Reg none[] = {{NULL, NULL}};
    static const luaL_Reg methods[] = {
        {"wait", handle_wait},
        {"pid", handle_pid},
        {"status", handle_status},
        {"output", handle_output},
        {"line", handle_line},
        {"over", handle_over},
        {"write", child_handle_write},
        {"feed", child_handle_feed},
        {"close_stdin", child_handle_close_stdin},
        {"kill", handle_kill},
        {"terminate", handle_terminate},
        {"close", child__gc},
        {NULL, NULL},
    };
    static const luaL_Reg functions[] = {
        {"start", process_start},
        {"exec", process_exec},
        {NULL, NULL},
    };
    bind_class(L, rt, SET_CLASS, set_meta, none);
    bind_class(L, rt, CHILD_CLASS, child_meta, methods);
    lua_pop(L, 2);
    bind_lib(L, rt, functions);
    bind_system_functions(L, rt);
    return 1;
}
