/* What tasks can wait for besides I/O: conditions (the base of queues and semaphores) and signals. */
#include "base/deadline.h"
#include "task/impl.h"
#include "task/traced.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#define CONDITION_CLASS "dbrun.condition"
#define SIGNAL_CLASS    "dbrun.signal"

/* ---- condition: FIFO of waiting tasks ---- */

struct condition {
    struct wait_queue waiting;
};

int cond_new(lua_State *L)
{
    struct condition *c = lua_newuserdatauv(L, sizeof *c, 0);
    *c = (struct condition){{NULL, NULL}};
    luaL_setmetatable(L, CONDITION_CLASS);
    return 1;
}

static void abandon_condition(struct wait *w)
{
    struct condition *c = w->data;
    wait_queue_remove(&c->waiting, w);
}

static int condition_k(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    (void)ctx;
    struct sched *s = sched_upvalue(L);
    enum wait_status how = wait_end(s);
    if (how == WAIT_CANCELLED)
        return task_raise_cancelled(L, s);
    lua_pushboolean(L, how == WAIT_DONE);
    return 1;
}

/* wait([seconds]) -> true when notified, false when the time passed */
static int condition_wait(lua_State *L)
{
    struct sched *s = sched_upvalue(L);
    struct condition *c = luaL_checkudata(L, 1, CONDITION_CLASS);
    uint64_t deadline = lua_isnoneornil(L, 2) ? DEADLINE_NEVER : deadline_in(luaL_checknumber(L, 2));
    task_check_park(L, s);
    struct wait *w = wait_begin(s, deadline, abandon_condition, c);
    wait_queue_push(&c->waiting, w);
    wait_told(L, s, w, TRACE_WAIT, "condition");
    return wait_park(L, w, 0, condition_k);
}

/* notify([n=1]) -> how many were woken, the longest waiting first */
static int condition_notify(lua_State *L)
{
    struct condition *c = luaL_checkudata(L, 1, CONDITION_CLASS);
    lua_Integer most = luaL_optinteger(L, 2, 1);
    lua_Integer n = 0;
    while (n < most && c->waiting.head) {
        wait_wake(wait_queue_pop(&c->waiting));
        n++;
    }
    lua_pushinteger(L, n);
    return 1;
}

static int condition_waiting(lua_State *L)
{
    struct condition *c = luaL_checkudata(L, 1, CONDITION_CLASS);
    lua_Integer n = 0;
    for (struct wait *w = c->waiting.head; w; w = w->next)
        n++;
    lua_pushinteger(L, n);
    return 1;
}

/* ---- signals of the operating system ---- */

struct signal_handle {
    uv_signal_t uv;
    struct wait *waiter;
    unsigned pending;
    int index; /* in signal_names */
};

struct signal_box {
    struct signal_handle *h;
};

static const struct {
    const char *name;
    int number;
} signal_names[SIGNALS] = {{"SIGHUP", SIGHUP},   {"SIGINT", SIGINT},   {"SIGTERM", SIGTERM},
                           {"SIGUSR1", SIGUSR1}, {"SIGUSR2", SIGUSR2}, {"SIGWINCH", SIGWINCH},
                           {"SIGCHLD", SIGCHLD}, {"SIGCONT", SIGCONT}, {"SIGQUIT", SIGQUIT}};

static void on_signal(uv_signal_t *uv, int number)
{
    (void)number;
    struct signal_handle *h = (struct signal_handle *)uv;
    h->pending++;
    wait_wake(h->waiter);
    h->waiter = NULL;
}

static void free_handle(uv_handle_t *uv)
{
    free(uv);
}

static int signal_start(struct sched *s, struct signal_handle *h)
{
    struct signal_user *u = &s->signals[h->index];
    int number = signal_names[h->index].number;
    if (u->listeners == 0)
        sigaction(number, NULL, &u->before);
    int rc = uv_signal_start(&h->uv, on_signal, number);
    if (rc == 0)
        u->listeners++;
    return rc;
}

static void signal_stop(struct sched *s, struct signal_handle *h)
{
    struct signal_user *u = &s->signals[h->index];
    if (!uv_is_active((uv_handle_t *)&h->uv))
        return;
    int number = signal_names[h->index].number;
    struct sigaction now;
    uv_signal_stop(&h->uv);
    /* This was libuv's last watcher of the signal, so libuv has set the default action. */
    if (--u->listeners == 0 && sigaction(number, NULL, &now) == 0 && now.sa_handler == SIG_DFL)
        sigaction(number, &u->before, NULL);
}

/* __close and __gc */
static int signal_close(lua_State *L)
{
    struct sched *s = sched_upvalue(L);
    struct signal_box *b = luaL_checkudata(L, 1, SIGNAL_CLASS);
    struct signal_handle *h = b->h;
    b->h = NULL;
    if (!h || s->closed)
        return 0;
    signal_stop(s, h);
    uv_close((uv_handle_t *)&h->uv, free_handle);
    return 0;
}

/* signal(name) -> handle with wait() */
int signal_new(lua_State *L)
{
    struct sched *s = sched_upvalue(L);
    const char *name = luaL_checkstring(L, 1);
    int index = 0;
    while (index < SIGNALS && strcmp(name, signal_names[index].name) != 0 &&
           strcmp(name, signal_names[index].name + 3) != 0)
        index++;
    if (index == SIGNALS)
        return sched_usage(L, s, "task.on_signal: unknown signal \"%s\" (expected SIGHUP, SIGUSR1, ...)",
                           name);
    struct signal_box *b = lua_newuserdatauv(L, sizeof *b, 0);
    b->h = NULL;
    luaL_setmetatable(L, SIGNAL_CLASS);
    struct signal_handle *h = calloc(1, sizeof *h);
    if (!h)
        return luaL_error(L, "not enough memory");
    h->index = index;
    int rc = uv_signal_init(&s->loop, &h->uv);
    if (rc == 0)
        b->h = h;
    else
        free(h);
    if (rc == 0)
        rc = signal_start(s, h);
    if (rc != 0)
        return sched_usage(L, s, "task.on_signal: %s: %s", name, uv_strerror(rc));
    return 1; /* the handle keeps the loop alive: all tasks waiting is no deadlock, since a signal may come */
}

static void abandon_signal(struct wait *w)
{
    struct signal_handle *h = w->data;
    h->waiter = NULL;
}

static int signal_k(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    struct sched *s = sched_upvalue(L);
    struct signal_handle *h = (struct signal_handle *)ctx;
    if (wait_end(s) == WAIT_CANCELLED)
        return task_raise_cancelled(L, s);
    h->pending = 0;
    return 0;
}

static int signal_wait(lua_State *L)
{
    struct sched *s = sched_upvalue(L);
    struct signal_box *b = luaL_checkudata(L, 1, SIGNAL_CLASS);
    if (!b->h)
        return sched_usage(L, s, "this signal handle is closed");
    task_check_park(L, s);
    struct wait *w = wait_begin(s, DEADLINE_NEVER, abandon_signal, b->h);
    wait_told(L, s, w, TRACE_WAIT, "signal");
    if (b->h->pending)
        wait_wake(w);
    else
        b->h->waiter = w;
    return wait_park(L, w, (lua_KContext)b->h, signal_k);
}

static void sync_class(lua_State *L, struct sched *s, const char *name, const luaL_Reg *methods)
{
    luaL_newmetatable(L, name);
    lua_newtable(L);
    lua_pushlightuserdata(L, s);
    luaL_setfuncs(L, methods, 1);
    lua_setfield(L, -2, "__index");
}

void sync_classes(lua_State *L, struct sched *s)
{
    static const luaL_Reg condition[] = {
        {"wait", condition_wait}, {"notify", condition_notify}, {"waiting", condition_waiting}, {NULL, NULL}};
    static const luaL_Reg signals[] = {{"wait", signal_wait}, {NULL, NULL}};
    sync_class(L, s, CONDITION_CLASS, condition);
    sync_class(L, s, SIGNAL_CLASS, signals);
    for (int i = 0; i < 2; i++) {
        lua_pushlightuserdata(L, s);
        lua_pushcclosure(L, signal_close, 1);
        lua_setfield(L, -2, i == 0 ? "__gc" : "__close");
    }
    lua_pop(L, 2);
}
