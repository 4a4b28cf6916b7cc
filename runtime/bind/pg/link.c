/* Opening and closing a link, its user, and the events of its socket. */
#include "bind/pg/link.h"
#include "bind/pg/notices.h"
#include "bind/pg/traced.h"

#include "base/deadline.h"
#include "base/text.h"
#include "pg/settings.h"

#include <stdlib.h>
#include <string.h>

static void on_ready(void *data, unsigned events);
static void on_limit(struct sched_timer *t);
static void on_gone(struct sched_timer *t);

/* ---- life ---- */

static void forget_columns(void *data, int ref)
{
    struct pg_link *link = data;
    luaL_unref(link->engine->rt->L, LUA_REGISTRYINDEX, ref);
}

static bool is_set_to(const PGconn *conn, const char *parameter, const char *wanted)
{
    const char *value = PQparameterStatus(conn, parameter);
    return value && strcmp(value, wanted) == 0;
}

static bool is_on(const PGconn *conn, const char *parameter)
{
    return is_set_to(conn, parameter, "on");
}

static bool is_read_only(const PGconn *conn)
{
    return is_on(conn, "in_hot_standby") || is_on(conn, "default_transaction_read_only");
}

/* True when the connection string, environment or service file asks for a writable server. */
static bool asks_for_writes(PGconn *conn)
{
    bool asks = false;
    PQconninfoOption *options = PQconninfo(conn);
    for (PQconninfoOption *o = options; o && o->keyword; o++)
        if (strcmp(o->keyword, "target_session_attrs") == 0 && o->val)
            asks = strcmp(o->val, "read-write") == 0 || strcmp(o->val, "primary") == 0;
    PQconninfoFree(options);
    return asks;
}

bool pg_link_is_demoted(const struct pg_link *link)
{
    return link->writer && is_read_only(link->m.conn);
}

/* True when the open transaction was made read-only, and neither the server nor the session is. Servers
 * before 14 do not report these two. */
static bool is_read_only_by_itself(const struct pg_link *link)
{
    return link->m.in_transaction && is_set_to(link->m.conn, "in_hot_standby", "off") &&
           is_set_to(link->m.conn, "default_transaction_read_only", "off");
}

void pg_link_note_read_only(const struct pg_link *link, struct error *e)
{
    const char *state = e->field[ERROR_SQLSTATE];
    const char *hint = e->field[ERROR_HINT];
    if (!state || strcmp(state, "25006") != 0)
        return;
    if (pg_link_is_demoted(link))
        pool_invalidate(link->engine->pool, mono_now());
    else if (hint && strcmp(hint, PG_READ_ONLY_HINT) == 0 && is_read_only_by_itself(link))
        error_set_field(
            e, ERROR_HINT,
            "This transaction is read-only because it was begun so (read_only = true, or READ ONLY "
            "in SQL): leave that out, or write in another transaction.");
}

/* Registers the password, wherever libpq found it, so that errors and log lines mask it. */
static bool learn_password(struct secrets *secrets, const PGconn *conn)
{
    const char *password = PQpass(conn);
    return !password || secrets_add(secrets, password, strlen(password));
}

struct pg_link *pg_link_new(struct pg_engine *e, struct pool_slot *slot, PGconn *conn)
{
    struct pg_link *link = calloc(1, sizeof *link);
    if (!link) {
        PQfinish(conn);
        return NULL;
    }
    link->engine = e;
    link->slot = slot;
    link->deadline = DEADLINE_NEVER;
    link->on_notice = LUA_NOREF;
    link->limit.fn = on_limit;
    link->limit.data = link;
    link->gone.fn = on_gone;
    link->gone.data = link;
    uint32_t limit = e->cache_off ? 0 : e->cache_limit;
    bool ok = pg_machine_init(&link->m, conn, limit, forget_columns, link);
    ok = ok && learn_password(e->rt->secrets, conn);
    if (ok && !e->sync) {
        link->io = io_watch_open(sched_loop(e->rt->sched), PQsocket(conn), on_ready, link);
        ok = link->io != NULL;
    }
    if (!ok) {
        pg_machine_close(&link->m);
        free(link);
        return NULL;
    }
    PQsetNoticeReceiver(conn, pg_notices_receive, link);
    link->needs_on_connect = e->on_connect != LUA_NOREF;
    link->m.catalog = e->catalog;
    link->m.cache_age = e->cache_age;
    link->m.schema_epoch = &e->rt->schema_epoch;
    link->m.bare = !pg_settings_at_startup(conn);
    link->m.text_only = e->decoder.codecs != LUA_NOREF;
    link->pid = PQbackendPID(conn);
    if (e->rt->trace)
        pg_traced_new(link);
    link->writer = asks_for_writes(conn) && !is_read_only(conn);
    pg_engine_ref(e);
    if (link->io)
        io_watch_want(link->io, IO_READ);
    return link;
}

void pg_link_free(struct pg_link *link)
{
    struct pg_engine *e = link->engine;
    if (link->cancel)
        link->cancel->link = NULL; /* the worker finishes the request */
    if (link->user && link->user->detach)
        link->user->detach(link);
    if (link->traced)
        pg_traced_free(link);
    pg_notices_forget(link);
    pg_link_end(link);
    sched_timer_stop(e->rt->sched, &link->gone);
    io_watch_close(link->io);
    pg_machine_close(&link->m);
    free(link);
    pg_engine_unref(e);
}

void pg_link_release(struct pg_link *link)
{
    struct pg_engine *e = link->engine;
    pool_release(e->pool, link->slot, pg_engine_now(e));
}

void pg_link_close(struct pool_slot *slot)
{
    pg_link_free(slot->conn);
    slot->conn = NULL;
    pool_closed(slot, mono_now());
}

/* ---- the user ---- */

void pg_link_set_user(struct pg_link *link, const struct pg_link_user *user)
{
    link->user = user;
}

static void set_background(struct pg_link *link, bool on)
{
    if (link->in_background != on)
        sched_background(link->engine->rt->sched, on ? 1 : -1);
    link->in_background = on;
}

void pg_link_begin(struct pg_link *link, const struct pg_link_user *user, double seconds, bool background)
{
    struct sched *s = link->engine->rt->sched;
    link->user = user;
    set_background(link, background);
    sched_timer_stop(s, &link->again);
    sched_timer_start(s, &link->limit, deadline_in(seconds));
}

void pg_link_end(struct pg_link *link)
{
    struct sched *s = link->engine->rt->sched;
    link->user = NULL;
    set_background(link, false);
    sched_timer_stop(s, &link->again);
    sched_timer_stop(s, &link->limit);
}

void pg_link_wake(struct pg_link *link)
{
    link->answered = link->waiter != NULL;
    wait_wake(link->waiter);
    link->waiter = NULL;
}

/* ---- notes for the error of tasks that wait too long for a connection ---- */

void pg_link_note_statement(struct pg_link *link, const char *sql, size_t len)
{
    size_t n = utf8_cut(sql, len, sizeof link->statement - 1);
    memcpy(link->statement, sql, n);
    link->statement[n] = '\0';
}

void pg_link_note_place(lua_State *L, struct pg_link *link)
{
    script_place(L, 1, &link->place);
}

/* ---- events of the socket ---- */

void pg_link_drop_notifications(struct pg_link *link)
{
    PGnotify *n;
    while ((n = PQnotifies(link->m.conn))) {
        if (!link->deaf)
            log_write(
                link->engine->rt->log, LOG_LEVEL_WARN,
                "postgres: a notification on the channel '%s' was dropped, and later ones will be, too: the "
                "script ran LISTEN on a connection of the pool; use engine:listen instead",
                n->relname);
        link->deaf = true;
        PQfreemem(n);
    }
}

void pg_link_rest(struct pg_link *link)
{
    io_watch_want(link->io, link->m.state == PG_BROKEN ? 0 : IO_READ);
}

/* The socket of a free link is readable: a notice, a changed parameter, or the end of the connection. */
static void idle_ready(struct pg_link *link)
{
    bool inside = pg_machine_in_transaction(&link->m);
    bool alive = PQconsumeInput(link->m.conn) != 0;
    if (alive) {
        pg_link_drop_notifications(link); /* also makes libpq parse what has arrived */
        alive = PQstatus(link->m.conn) == CONNECTION_OK;
    }
    if (alive)
        return;
    link->m.end.inside = inside;
    pg_machine_break(&link->m);
    io_watch_want(link->io, 0);
    pool_died(link->slot, mono_now());
}

static void on_ready(void *data, unsigned events)
{
    struct pg_link *link = data;
    const struct pg_link_user *user = link->user;
    if (!user && link->m.state == PG_IDLE) {
        idle_ready(link);
        return;
    }
    unsigned step = pg_machine_step(&link->m, events);
    if (step & (PG_DONE | PG_ROW)) {
        pg_link_rest(link);
        if (user)
            user->stepped(link, step);
        return;
    }
    io_watch_want(link->io, step);
    if (user && user->going_on)
        user->going_on(link);
}

static void on_gone(struct sched_timer *t)
{
    on_ready(t->data, IO_READ | IO_WRITE);
}

void pg_link_watch(struct pg_link *link)
{
    if (PQsocket(link->m.conn) >= 0) {
        if (link->m.flushing)
            io_watch_want(link->io, IO_READ | IO_WRITE);
        return;
    }
    io_watch_want(link->io, 0);
    sched_timer_start(link->engine->rt->sched, &link->gone, mono_now());
}

/* ---- giving up ---- */

static void on_limit(struct sched_timer *t)
{
    struct pg_link *link = t->data;
    if (link->user && link->user->late)
        link->user->late(link);
    else
        pg_link_give_up(link);
}

void pg_link_give_up(struct pg_link *link)
{
    pg_machine_break(&link->m);
    if (link->io)
        io_watch_want(link->io, 0);
    if (link->user && link->user->given_up)
        link->user->given_up(link);
}
