/*
 * A link: one established connection in a pool slot, with its machine and its user.
 *
 * A link without a user is idle in its pool, or leased and between two statements, two blocks of a COPY, or a
 * reply and the task that takes it (`answered`). Only pg_link_set_user, pg_link_begin and pg_link_end change
 * the user:
 *
 *   statement  link_wait.c    a task waits for a reply: the reply -> free; the wait is abandoned -> drain
 *   stream     stream.c       rows or COPY, piece by piece, read only while a task waits for more
 *   shared     mux.c          statements of several tasks in flight (pipeline=)
 *   drain      link_cancel.c  an abandoned statement is cancelled, and its replies are discarded
 *                             -> free, or reset when the link was returned
 *   ping       link_upkeep.c  the pool's pre-ping -> free
 *   reset      link_upkeep.c  ROLLBACK (or DISCARD ALL) on return -> free
 *
 * Who owns what: a link belongs to its pool slot. The pool can close the link inside pool_release,
 * pool_pinged, pool_reset_done and pool_died: do not touch it after these calls.
 */
#ifndef DBRUN_BIND_PG_LINK_H
#define DBRUN_BIND_PG_LINK_H

#include "bind/pg/engine.h"
#include "io/poll.h"
#include "io/watch.h"
#include "pg/machine.h"
#include "task/where.h"

struct pg_link;
struct pg_traced;

struct pg_link_user {
    const char *name;
    /* Called when the machine stopped at PG_DONE or PG_ROW. Can free the link. */
    void (*stepped)(struct pg_link *link, unsigned step);
    /* Called when the machine stepped and waits for the socket again; NULL = nothing to do. */
    void (*going_on)(struct pg_link *link);
    /* Called when the timer `limit` has expired; NULL = pg_link_give_up. */
    void (*late)(struct pg_link *link);
    /* Called when the connection was abandoned and the machine is broken. Can free the link. NULL = nothing
     * to do. */
    void (*given_up)(struct pg_link *link);
    /* Called when the cancel request has ended. Can free the link. NULL = nothing to do. */
    void (*cancel_answered)(struct pg_link *link);
    /* Called when the lease was released while this user was active; NULL = nothing to do. */
    void (*taken_away)(struct pg_link *link);
    /* Called when the link is freed or returns to its pool; NULL = nothing to do. */
    void (*detach)(struct pg_link *link);
    bool upkeep; /* the pool's work: no handler gets the server's notices */
    bool shared; /* the engine's handler gets the server's notices */
};

/* A cancel request that is under way (link_cancel.c). */
struct pg_cancelling {
    struct pg_link *link; /* NULL once the link is freed */
};

struct pg_link {
    struct pg_engine *engine;
    struct pool_slot *slot;
    struct pg_machine m;
    struct io_watch *io; /* NULL on the sync engine */
    const struct pg_link_user *user;
    struct wait *waiter;                   /* the task that waits for the user's end, or for the next piece */
    struct pg_mux_conn *mux_conn;          /* user shared: its place in the mux */
    struct pg_stream *stream;              /* user stream */
    unsigned stream_step;                  /* user stream: what the step that woke its task returned */
    struct sched_timer gone;               /* steps the machine after libpq closed the socket while sending */
    struct sched_timer limit;              /* the time limit of a ping, a drain, a reset */
    struct sched_timer again;              /* sends another cancel request when one had no effect */
    struct pg_cancelling *cancel;          /* a cancel request under way: no statement may begin */
    void (*drained)(struct pg_link *link); /* called at the end of a drain; NULL = the link becomes free */
    bool writer;   /* target_session_attrs asks for a writable server, and this one was when it was opened */
    int on_notice; /* the lease's handler; LUA_NOREF = the engine's */
    struct pg_notices notices;
    bool deaf;             /* it was logged that a script runs LISTEN on this connection */
    bool telling;          /* on_notice runs: the link must not be used */
    bool answered;         /* the waiting task was woken but has not run yet: it must take the answer first */
    bool needs_on_connect; /* on_connect has not run yet, or its effect was reset */
    bool patient;          /* drain: no cancel request yet */
    uint64_t until;        /* the time limit of its statement */
    uint64_t deadline;     /* sync: the time limit of a transaction; DEADLINE_NEVER = none */
    double deadline_after;
    bool in_background;
    uint64_t turned; /* COPY FROM STDIN: when its task last let the loop run */
    int pid;
    struct pg_traced *traced;  /* NULL: no trace */
    struct script_place place; /* where the script acquired it; none = not leased by a script */
    const struct task *task;   /* the task whose single statement runs on it; NULL while it is leased */
    char statement[96];        /* the beginning of the last statement */
};

/* ---- link.c ---- */

/* Takes over the connection; NULL when out of memory, and the connection is then closed. */
struct pg_link *pg_link_new(struct pg_engine *e, struct pool_slot *slot, PGconn *conn);
void pg_link_free(struct pg_link *link);
/* Returns the link to its pool, which may free it. */
void pg_link_release(struct pg_link *link);
/* For pool_ops.close. */
void pg_link_close(struct pool_slot *slot);
/* NULL makes the link free. */
void pg_link_set_user(struct pg_link *link, const struct pg_link_user *user);
/* Sets a user that has `seconds` to end (user->late). `background`: no task waits for it, only the end of the
 * program, for a moment. */
void pg_link_begin(struct pg_link *link, const struct pg_link_user *user, double seconds, bool background);
/* Ends such a user: the link becomes free. */
void pg_link_end(struct pg_link *link);
/* Wakes the task that waits for the user's end, or for the next piece. The task must take the answer before
 * the link is used again. */
void pg_link_wake(struct pg_link *link);
/* Call it after sending: watches the socket until it has taken everything. When the server is gone, libpq may
 * have closed the socket while sending; then libuv must not watch it any more, and a timer steps the
 * machine. */
void pg_link_watch(struct pg_link *link);
/* Watches an idle link for unsolicited messages from the server. Stops watching a broken link. */
void pg_link_rest(struct pg_link *link);
/* Breaks the connection, and informs the user. */
void pg_link_give_up(struct pg_link *link);
/* True when the server refuses writes now, although the connection string asks for a writable server and it
 * was one when the connection was opened. */
bool pg_link_is_demoted(const struct pg_link *link);
/* For an error that says "read-only" (25006). If the connection string asks for a primary, and the server is
 * none any more: invalidates all connections of the pool, so that no other task loses a write on one of them.
 * If only the transaction is read-only, sets the hint that says so. */
void pg_link_note_read_only(const struct pg_link *link, struct error *e);
/* Drops the notifications of a script that ran LISTEN on a pooled connection, because libpq would keep them.
 * Also makes libpq parse what has arrived. */
void pg_link_drop_notifications(struct pg_link *link);
/* Store the beginning of the statement, and the script's line, for the error of tasks that wait too long for
 * a connection. */
void pg_link_note_statement(struct pg_link *link, const char *sql, size_t len);
void pg_link_note_place(lua_State *L, struct pg_link *link);

/* ---- link_block.c: the sync engine ---- */

/* True when an unexpected COPY TO STDOUT must be cancelled, because it would send all its rows. */
bool pg_link_has_unwanted_copy(const struct pg_link *link);
/* Steps to the end, or to the next row, blocking. */
enum io_status pg_link_step_blocking(struct pg_link *link, unsigned *step, uint64_t deadline);
/* As above, for a caller that does not need the step. */
enum io_status pg_link_run_blocking(struct pg_link *link, uint64_t deadline);
/* Cancels the statement, blocking: sends the request, and breaks the connection if the statement has not
 * ended after `grace` seconds. */
void pg_link_cancel_blocking(struct pg_link *link, double grace);
/* Seconds, in addition to the time limit, for cancelling a statement whose limit has passed: a tenth of the
 * limit, within bounds. */
double pg_link_grace_after(double limit);
/* Abandons a statement, and sets m.error. `timeout` 0 = the transaction's time limit has passed. */
void pg_link_cut_short(struct pg_link *link, enum io_status status, double timeout);

/* ---- link_cancel.c: the async engine ---- */

/* Seconds that a cancelled statement has to end before its connection is closed. */
#define PG_DRAIN_LIMIT 2.0
/* After this many seconds a cancel request that was answered without effect is sent again. */
#define PG_CANCEL_AGAIN 0.1

/* Asks the server to cancel the running statement; a task that waits for the statement gets 57014. */
void pg_link_request_cancel(struct pg_link *link);
/* Begins the drain of a statement that no task waits for any more. Cancels the statement at once (grace 0),
 * or, in a transaction, which a cancel would fail, only after `grace` seconds. */
void pg_link_abandon(struct pg_link *link, double grace);
/* Logs that a statement was cancelled after its grace. */
void pg_link_warn_cancelled(const struct pg_link *link);
/* True while an abandoned statement, or its cancel request, is under way. */
bool pg_link_is_draining(struct pg_link *link);
/* For a link that was returned: calls `next` when the link is drained, which can be at once. A grace ends,
 * because the transaction is over anyway and a cancel loses nothing. */
void pg_link_drain_then(struct pg_link *link, void (*next)(struct pg_link *link));
/* Parks the task until the link is drained; then k continues. */
int pg_link_wait_drained(lua_State *L, struct pg_link *link, lua_KContext ctx, lua_KFunction k);
/* For a lease that is released while a task waits on the link: abandons the statement, and wakes the task. */
void pg_link_take_away(struct pg_link *link);
/* For statements in flight that no task waits for any more: cancels the running one, and limits the time of
 * all. */
void pg_link_cancel_shared(struct pg_link *link);
/* Called when all statements in flight have ended. Begins a drain if a cancel request is still under way. */
void pg_link_shared_over(struct pg_link *link);

/* ---- link_wait.c ---- */

/* Call it after sending: waits for the reply, parked or (sync engine) blocking; then k continues. */
int pg_link_wait(lua_State *L, struct pg_link *link, double timeout, lua_KContext ctx, lua_KFunction k);
/* Waits for more of the reply, within the same time limit. On the sync engine this function, unlike
 * pg_link_wait, returns without calling k when the reply has ended or a part of it has arrived. */
int pg_link_wait_more(lua_State *L, struct pg_link *link, double timeout, lua_KContext ctx, lua_KFunction k);

/* ---- link_upkeep.c: pool_ops ---- */

enum pool_check pg_link_check(struct pool_slot *slot, uint64_t idle_ns);
void pg_link_ping(struct pool_slot *slot);
enum pool_verdict pg_link_judge(struct pool_slot *slot);
void pg_link_reset(struct pool_slot *slot);

#endif
