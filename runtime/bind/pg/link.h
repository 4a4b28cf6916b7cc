/*
 * A link: one established connection in a pool slot. It is the machine, and who uses it.
 *
 * A link without a user is free: idle in its pool, or leased and between two statements. pg_link_set_user
 * changes the user, and nothing else does:
 *
 *   statement  link_wait.c    a task waits for it: its reply -> free; the wait is abandoned -> drain
 *   stream     stream.c       rows or COPY, piece by piece, read only while a task waits for more
 *   shared     mux.c          statements of several tasks in flight (pipeline=)
 *   drain      link_cancel.c  given up: replies are thrown away, a cancel request is on its way
 *   ping       link_upkeep.c  the pool asks whether it lives
 *   reset      link_upkeep.c  ROLLBACK (or DISCARD ALL) on return
 *
 * Who owns what: a link belongs to its pool slot. The pool may close it inside of the call that brings it
 * news: do not touch a link behind pool_release, pool_pinged, pool_reset_done or pool_died.
 */
#ifndef DBRUN_BIND_PG_LINK_H
#define DBRUN_BIND_PG_LINK_H

#include "bind/pg/engine.h"
#include "io/poll.h"
#include "io/watch.h"
#include "pg/machine.h"
#include "task/where.h"

struct pg_link;

struct pg_link_user {
    const char *name;
    /* The machine stopped at PG_DONE or PG_ROW. It may end the link. */
    void (*stepped)(struct pg_link *link, unsigned step);
    /* The machine goes on; NULL = nothing to do. */
    void (*going_on)(struct pg_link *link);
    /* The time of `limit` is over; NULL = pg_link_give_up. */
    void (*late)(struct pg_link *link);
    /* The connection was given up: the machine is broken. It may end the link. NULL = nothing to do. */
    void (*given_up)(struct pg_link *link);
    /* The request to cancel was answered. It may end the link. NULL = nothing to do. */
    void (*cancel_answered)(struct pg_link *link);
    /* The lease was released in the middle of it; NULL = nothing to do. */
    void (*taken_away)(struct pg_link *link);
    /* The link goes to another user, or away; NULL = nothing to do. */
    void (*detach)(struct pg_link *link);
    bool upkeep; /* the pool's own: what the server says meanwhile is told to no handler */
    bool shared; /* what the server says is told to the engine's handler */
};

/* A request to cancel that is under way (link_cancel.c). */
struct pg_cancelling {
    struct pg_link *link; /* NULL once the link is gone */
};

struct pg_link {
    struct pg_engine *engine;
    struct pool_slot *slot;
    struct pg_machine m;
    struct io_watch *io; /* NULL on the sync engine */
    const struct pg_link_user *user;
    struct wait *waiter;                   /* the task that waits for the user's end, or for the next piece */
    struct pg_mux_conn *mux_conn;          /* shared: by which place of the mux */
    struct pg_stream *stream;              /* stream: which one */
    unsigned stream_step;                  /* what the step said that woke it */
    struct sched_timer gone;               /* brings the news of a socket that libpq closed while it sent */
    struct sched_timer limit;              /* of a ping, a drain, a reset */
    struct pg_cancelling *cancel;          /* under way: the link is nobody's until it is answered */
    void (*drained)(struct pg_link *link); /* drain: what comes next; NULL = it is free */
    bool writer;   /* target_session_attrs asks for a server that takes writes, and this one did */
    int on_notice; /* of its lease; LUA_NOREF = the engine's */
    struct pg_notices notices;
    bool telling;  /* a handler runs: nothing else may happen on it */
    bool answered; /* the task that waited was woken and has not gone on yet: the answer is still its own */
    bool needs_on_connect; /* it has not run yet */
    bool patient;          /* drain: not cancelled yet */
    uint64_t deadline;     /* sync: of what its lease does, set by a transaction; DEADLINE_NEVER = none */
    double deadline_after;
    bool in_background;
    uint64_t turned; /* COPY FROM STDIN: when its task last let the loop turn */
    int pid;
    struct script_place place; /* of the acquire; none = not leased by a script */
    const struct task *task;   /* whose single statement it runs; NULL while it is leased */
    char statement[96];        /* the beginning of the last one */
};

/* ---- link.c ---- */

/* Takes over the connection; NULL (and it is closed) when memory is out. */
struct pg_link *pg_link_new(struct pg_engine *e, struct pool_slot *slot, PGconn *conn);
void pg_link_free(struct pg_link *link);
/* pool_ops.close */
void pg_link_close(struct pool_slot *slot);
/* NULL = free. */
void pg_link_set_user(struct pg_link *link, const struct pg_link_user *user);
/* The program's end waits a moment for what goes on in the background. */
void pg_link_set_background(struct pg_link *link, bool on);
/* After something was sent: watches for what the socket did not take. A server that is gone can make libpq
 * close its socket while it sends; libuv must not watch that any more, so the loop tells the news itself. */
void pg_link_watch(struct pg_link *link);
/* Watches for nothing any more (broken), or for what the server says by itself. */
void pg_link_rest(struct pg_link *link);
/* Ends what its user does, at once: the connection is broken. */
void pg_link_give_up(struct pg_link *link);
/* Its server took writes when it was opened, as its address asks for, and does not any more. */
bool pg_link_is_demoted(const struct pg_link *link);
/* A script that ran LISTEN on a pooled connection: libpq would keep what nobody reads. Parses what came. */
void pg_link_drop_notifications(struct pg_link *link);
/* Notes the beginning of the statement, and the script's line, for those who wait too long for the
 * connection. */
void pg_link_note_statement(struct pg_link *link, const char *sql, size_t len);
void pg_link_note_place(lua_State *L, struct pg_link *link);

/* ---- link_block.c: the sync engine ---- */

/* A COPY TO STDOUT that nobody asked for ends soon only when it is cancelled. */
bool pg_link_has_unwanted_copy(const struct pg_link *link);
/* Steps to the end, or to the next row, blocking. */
enum io_status pg_link_step_blocking(struct pg_link *link, unsigned *step, uint64_t deadline);
/* Steps to the end of the statement, blocking. */
enum io_status pg_link_run_blocking(struct pg_link *link, uint64_t deadline);
/* The blocking form of cancelling: the request, then `grace` seconds to end; else the connection is broken.
 */
void pg_link_cancel_blocking(struct pg_link *link, double grace);
/* Gives a statement up. `timeout` 0 = it was the transaction's time that ran out. */
void pg_link_cut_short(struct pg_link *link, enum io_status status, double timeout);

/* ---- link_cancel.c: the async engine ---- */

/* Seconds that a cancelled statement has to end before its connection is given up. */
#define PG_DRAIN_LIMIT 2.0

/* Asks the server to cancel what runs now; the task that waits for it gets 57014. */
void pg_link_request_cancel(struct pg_link *link);
/* Nobody waits any more: what still comes is thrown away. It is cancelled at once, or (in a transaction,
 * which a cancel would end) when it has not ended by itself after `grace` seconds. */
void pg_link_abandon(struct pg_link *link, double grace);
void pg_link_warn_cancelled(const struct pg_link *link);
/* Is a given up statement, or the request that cancels it, still under way? */
bool pg_link_is_draining(struct pg_link *link);
/* Draining: its transaction is over anyway, so a cancel loses nothing. */
void pg_link_drain_now(struct pg_link *link);
/* Waits until it is drained. */
int pg_link_wait_drained(lua_State *L, struct pg_link *link, lua_KContext ctx, lua_KFunction k);
/* The lease is released while a task waits on the link: what runs is given up, the task woken. */
void pg_link_take_away(struct pg_link *link);
/* Nobody waits for what is in flight any more: what runs is cancelled, and all of it has a limit from now on.
 */
void pg_link_cancel_shared(struct pg_link *link);
/* All in flight has ended. A cancel request that is still under way keeps the link from the next user. */
void pg_link_shared_over(struct pg_link *link);

/* ---- link_wait.c ---- */

/* After something was sent: waits as the engine does and goes on in k. */
int pg_link_wait(lua_State *L, struct pg_link *link, double timeout, lua_KContext ctx, lua_KFunction k);

/* ---- link_upkeep.c: pool_ops ---- */

enum pool_check pg_link_check(struct pool_slot *slot, uint64_t idle_ns);
void pg_link_ping(struct pool_slot *slot);
enum pool_verdict pg_link_judge(struct pool_slot *slot);
void pg_link_reset(struct pool_slot *slot);

#endif
