#include "bind/pg/listen.h"

#include "base/deadline.h"
#include "bind/base/error.h"
#include "bind/base/inbox.h"
#include "bind/pg/lease.h"
#include "pg/listener.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FEED_CLASS "dbrun.pg.feed"

struct item {
    struct inbox_item base; /* first: free_item and the others cast it back */
    PGnotify *n;
};

struct feed {
    struct runtime *rt;
    struct pg_listener l; /* closed: l.m.conn is NULL */
    struct io_watch *io;  /* NULL on the sync engine */
    struct inbox inbox;
    struct wait *exec_wait; /* of the task that runs a statement */
    bool changing;          /* a task runs a statement and has not resumed yet */
    bool waits_to_send;     /* its statement is sent when the empty statement of ask() has ended */
};

static void free_item(struct inbox_item *base)
{
    struct item *i = (struct item *)base;
    PQfreemem(i->n);
    free(i);
}

/* The listener's sink. */
static bool append(void *data, PGnotify *n)
{
    struct feed *f = data;
    struct item *i = malloc(sizeof *i);
    if (!i)
        return false;
    i->n = n;
    inbox_put(&f->inbox, &i->base, sizeof *i + sizeof *n + strlen(n->relname) + strlen(n->extra));
    f->l.full = f->inbox.full;
    return true;
}

/* ---- the two drivers, without Lua ---- */

static void wake_exec(struct feed *f)
{
    struct wait *w = f->exec_wait;
    f->exec_wait = NULL;
    wait_wake(w);
}

/* After a step: watches for what the listener wants, and wakes the tasks that wait. */
static void look(struct feed *f)
{
    if (f->io)
        io_watch_want(f->io, pg_listener_want(&f->l));
    if (error_is_set(&f->l.lost))
        inbox_lose(&f->inbox, &f->l.lost);
    if (!pg_listener_is_busy(&f->l))
        wake_exec(f);
}

static void lose(struct feed *f, const char *why)
{
    pg_listener_lose(&f->l, why);
    look(f);
}

static void on_ready(void *data, unsigned events)
{
    struct feed *f = data;
    pg_listener_step(&f->l, events);
    look(f);
}

/* Sync engine: waits for the socket, and steps. Called only when the listener wants to read or write. */
static enum io_status poll_once(struct feed *f, uint64_t deadline)
{
    const struct io_interrupt *intr = f->rt->interrupt.fd >= 0 ? &f->rt->interrupt : NULL;
    unsigned ready = 0;
    enum io_status status = io_poll(pg_machine_fd(&f->l.m), pg_listener_want(&f->l), deadline, intr, &ready);
    if (status == IO_READY)
        on_ready(f, ready);
    else if (status == IO_ERROR)
        lose(f, strerror(errno));
    return status;
}

/* ---- life ---- */

static void feed_close(struct feed *f)
{
    if (!f->l.m.conn)
        return;
    io_watch_close(f->io);
    f->io = NULL;
    pg_listener_close(&f->l);
    inbox_close(&f->inbox);
    wake_exec(f);
}

static int feed__gc(lua_State *L)
{
    struct feed *f = luaL_checkudata(L, 1, FEED_CLASS);
    f->exec_wait = NULL; /* no task waits, or the program ends without resuming its tasks */
    inbox_free(&f->inbox);
    feed_close(f);
    return 0;
}

static int feed__close(lua_State *L)
{
    feed_close(luaL_checkudata(L, 1, FEED_CLASS));
    return 0;
}

/* As in lua/dbrun/db/listen.lua. */
#define CLOSED      "this listener has been closed"
#define CLOSED_HINT "engine:listen makes another one."

static struct feed *check(lua_State *L)
{
    struct feed *f = luaL_checkudata(L, 1, FEED_CLASS);
    if (!f->l.m.conn)
        bind_refuse(L, bind_runtime(L), CLOSED, CLOSED_HINT);
    return f;
}

/* Takes the connection out of the lease's link, and frees the link and its slot. False when out of memory. */
static bool take_connection(struct feed *f, struct pg_lease *lease)
{
    struct pg_link *link = lease->link;
    if (!pg_listener_init(&f->l, link->m.conn, append, f))
        return false;
    pg_machine_detach(&link->m);
    lease->link = NULL;
    pool_detach(link->engine->pool, link->slot, mono_now());
    pg_link_free(link);
    return true;
}

int pg_listen_feed(lua_State *L)
{
    struct runtime *rt = bind_runtime(L);
    struct pg_lease *lease = pg_lease_check(L);
    bool sync = lease->engine->sync;
    struct feed *f = lua_newuserdatauv(L, sizeof *f, 0);
    *f = (struct feed){.rt = rt, .inbox = {.free = free_item}};
    luaL_setmetatable(L, FEED_CLASS);
    struct pg_link *link = pg_lease_link(L);
    if (!pg_machine_is_clean(&link->m))
        return bind_fail(L, rt, ERROR_USAGE, "a connection in a transaction cannot become a listener's");
    if (!take_connection(f, lease))
        return luaL_error(L, "not enough memory");
    if (sync)
        return 1;
    f->io = io_watch_open(sched_loop(rt->sched), pg_machine_fd(&f->l.m), on_ready, f);
    if (!f->io) {
        feed_close(f);
        return luaL_error(L, "not enough memory");
    }
    on_ready(f, 0); /* notifications may have come already */
    return 1;
}

/* ---- taking ---- */

/* -> channel, payload, pid */
static int push_first(lua_State *L, struct feed *f)
{
    struct inbox_item *i = inbox_take(&f->inbox);
    const PGnotify *n = ((struct item *)i)->n;
    lua_pushstring(L, n->relname);
    lua_pushstring(L, n->extra);
    lua_pushinteger(L, n->be_pid);
    inbox_taken(&f->inbox, i);
    f->l.full = f->inbox.full;
    if (f->io)
        io_watch_want(f->io, pg_listener_want(&f->l));
    return 3;
}

static int interrupted(lua_State *L, struct feed *f)
{
    return bind_fail(L, f->rt, ERROR_CANCELLED, "interrupted");
}

static int next_k(lua_State *L, int status, lua_KContext ctx)
{
    struct feed *f = (struct feed *)ctx;
    (void)status;
    inbox_waited(L, f->rt, &f->inbox);
    if (inbox_has(&f->inbox))
        return push_first(L, f);
    return error_is_set(&f->inbox.lost) ? inbox_raise_lost(L, f->rt, &f->inbox) : 0;
}

static int next_blocking(lua_State *L, struct feed *f, uint64_t deadline)
{
    while (!inbox_has(&f->inbox) && !error_is_set(&f->inbox.lost)) {
        enum io_status status = poll_once(f, deadline);
        if (status == IO_INTERRUPTED)
            return interrupted(L, f);
        if (status == IO_TIMEOUT)
            return 0;
    }
    return inbox_has(&f->inbox) ? push_first(L, f) : inbox_raise_lost(L, f->rt, &f->inbox);
}

/* next(seconds) -> channel, payload, pid; nothing after the time limit, or when the feed was closed. When the
 * connection is lost, first returns the notifications that came before, then raises an error of kind
 * `connect`. */
static int feed__next(lua_State *L)
{
    struct feed *f = check(L);
    uint64_t deadline = deadline_in(luaL_optnumber(L, 2, HUGE_VAL));
    if (f->inbox.taking)
        return bind_fail(L, f->rt, ERROR_USAGE,
                         "another task is already waiting for an event of this listener");
    if (f->io)
        task_check_park(L, f->rt->sched);
    else if (!inbox_has(&f->inbox))
        on_ready(f, 0); /* libpq may have read notifications while a statement ran */
    if (inbox_has(&f->inbox))
        return push_first(L, f);
    if (error_is_set(&f->inbox.lost))
        return inbox_raise_lost(L, f->rt, &f->inbox);
    if (!f->io)
        return next_blocking(L, f, deadline);
    return inbox_wait(L, f->rt, &f->inbox, deadline, (lua_KContext)f, next_k);
}

/* ---- statements: LISTEN, UNLISTEN, and an empty one to check that the server answers ---- */

static int exec_k(lua_State *L, int status, lua_KContext ctx);

static void abandon_exec(struct wait *w)
{
    struct feed *f = w->data;
    f->exec_wait = NULL;
    lose(f, mono_now() >= w->timer.deadline ? "the server does not answer" : "a statement on it was cut off");
}

/* Sends a statement; false: it was not sent. */
static bool begin(struct feed *f, const char *sql)
{
    bool sent = pg_listener_exec(&f->l, sql);
    look(f);
    return sent;
}

static int executed(lua_State *L, struct feed *f)
{
    struct error e = {0};
    f->changing = false;
    if (!f->l.m.conn)
        return bind_refuse(L, f->rt, CLOSED, CLOSED_HINT);
    if (error_is_set(&f->inbox.lost))
        return inbox_raise_lost(L, f->rt, &f->inbox);
    if (!error_is_set(&f->l.m.error))
        return 0;
    error_move(&e, &f->l.m.error);
    return bind_error_raise(L, f->rt, &e);
}

static int park_exec(lua_State *L, struct feed *f)
{
    f->exec_wait = wait_begin(f->rt->sched, deadline_in(lua_tonumber(L, 3)), abandon_exec, f);
    return wait_park(L, f->exec_wait, (lua_KContext)f, exec_k);
}

static int exec_k(lua_State *L, int status, lua_KContext ctx)
{
    struct feed *f = (struct feed *)ctx;
    (void)status;
    if (wait_end(f->rt->sched) == WAIT_CANCELLED) {
        f->changing = false;
        return task_raise_cancelled(L, f->rt->sched);
    }
    if (!f->waits_to_send || !f->l.m.conn || error_is_set(&f->inbox.lost))
        return executed(L, f);
    f->waits_to_send = false;
    return begin(f, lua_tostring(L, 2)) ? park_exec(L, f) : executed(L, f);
}

/* Sync engine: waits until the statement in flight has ended. */
static int finish_blocking(lua_State *L, struct feed *f, uint64_t deadline)
{
    while (pg_listener_is_busy(&f->l)) {
        enum io_status status = poll_once(f, deadline);
        if (status == IO_INTERRUPTED) {
            lose(f, "a statement on it was cut off");
            return interrupted(L, f);
        }
        if (status == IO_TIMEOUT)
            lose(f, "the server does not answer");
    }
    return 0;
}

/* exec(sql, seconds): raises the server's error. When the server does not answer in time, the connection is
 * lost. */
static int feed__exec(lua_State *L)
{
    struct feed *f = check(L);
    const char *sql = luaL_checkstring(L, 2);
    uint64_t deadline = deadline_in(luaL_checknumber(L, 3));
    if (f->changing)
        return bind_fail(L, f->rt, ERROR_USAGE,
                         "another task is already changing the channels of this listener");
    if (f->io)
        task_check_park(L, f->rt->sched);
    if (!f->io) {
        finish_blocking(L, f, deadline);
        if (!error_is_set(&f->inbox.lost) && begin(f, sql))
            finish_blocking(L, f, deadline);
        return executed(L, f);
    }
    if (error_is_set(&f->inbox.lost))
        return inbox_raise_lost(L, f->rt, &f->inbox);
    f->waits_to_send = pg_listener_is_busy(&f->l);
    if (!f->waits_to_send && !begin(f, sql))
        return executed(L, f);
    f->changing = true;
    return park_exec(L, f);
}

/* ask(): sends an empty statement and does not wait for its answer */
static int feed__ask(lua_State *L)
{
    struct feed *f = check(L);
    if (!pg_listener_is_busy(&f->l))
        begin(f, "");
    return 0;
}

/* busy() -> true while a statement is in flight */
static int feed__busy(lua_State *L)
{
    lua_pushboolean(L, pg_listener_is_busy(&check(L)->l));
    return 1;
}

/* backend_pid() */
static int feed__backend_pid(lua_State *L)
{
    lua_pushinteger(L, PQbackendPID(check(L)->l.m.conn));
    return 1;
}

void pg_listen_class(lua_State *L, struct runtime *rt)
{
    static const luaL_Reg methods[] = {{"next", feed__next},
                                       {"exec", feed__exec},
                                       {"ask", feed__ask},
                                       {"busy", feed__busy},
                                       {"backend_pid", feed__backend_pid},
                                       {"close", feed__close},
                                       {NULL, NULL}};
    static const luaL_Reg meta[] = {{"__gc", feed__gc}, {"__close", feed__close}, {NULL, NULL}};
    bind_class(L, rt, FEED_CLASS, meta, methods);
    lua_pop(L, 1);
}
