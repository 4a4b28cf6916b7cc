/*
 * One PostgreSQL connection as a state machine over libpq. It never waits: send something, then call
 * pg_machine_step whenever the socket is ready for what it asked for, until it says PG_DONE. Who waits, and
 * for how long, is the driver's business. Nothing of Lua or of the loop is known here.
 *
 * What is in flight is a FIFO of groups. A group is one statement or several, and one sync (the protocol's
 * Sync, "Extended Query" and "Pipelining" in the manual): one implicit transaction, one error boundary, one
 * outcome. The server commits at the sync, so a group is settled there and nowhere else: a result that came
 * before is kept, an error in between takes its place, a connection lost in between leaves the outcome
 * unknown.
 *
 * The connection (m->state, changed by set_state alone):
 *
 *        IDLE ---- query, simple ------------------------> PLAIN ---- NULL behind the last result ----> IDLE
 *        PLAIN --- COPY answered, and asked for ---------> COPY_IN, COPY_OUT
 *        COPY_IN - copy_end, discard, step (lost) -------> PLAIN
 *        COPY_OUT  copy_get or step to its end ----------> PLAIN
 *        IDLE ---- preparing query, describe, batch, share > PIPE ---- last sync seen ----------------> IDLE
 *        any ----- lost, out of step, pg_machine_break --> BROKEN
 *        any ----- pg_machine_close ---------------------> CLOSED
 *
 * PLAIN is one group of one, outside of libpq's pipeline mode, and a barrier: it enters an empty queue only.
 * (A statement alone costs about 1,100 instructions less than in pipeline mode.) PIPE is either one group, of
 * the caller who steps ("alone"), or groups of many callers that joined with pg_machine_share ("shared").
 *
 * A group:     SENT --- its sync, each of its statements answered ---> settled
 *                 \--- an error, at the sync too ---> FAILED --- its sync ---> settled
 * A statement: waiting, answered, or skipped because one before it in its group failed. Results come in the
 * order of the statements, so two counts tell which is which (m->answered, group->statements).
 *
 * What each kind of result does to the head of the queue is one switch (machine_step.c). Whatever does not
 * fit there breaks the connection: the socket is shut down first, so that libpq cannot wait any more and what
 * the kernel has received stays readable; then each group is settled, once: as it had failed, else as
 * unknown.
 *
 * Who owns what: the machine owns the PGconn, its statement cache, and result and failure of the group that
 * is being answered. Of a group that is alone they are the caller's to take once step says PG_DONE
 * (m->result, m->error); of a shared one they are handed to m->settled.
 */
#ifndef DBRUN_PG_MACHINE_H
#define DBRUN_PG_MACHINE_H

#include "base/error.h"
#include "pg/cache.h"
#include "pg/types.h"

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What pg_machine_step answers: the readiness to wait for, or PG_DONE. The two interests have the
 * values of IO_READ and IO_WRITE of the drivers. */
#define PG_WANT_READ  1u
#define PG_WANT_WRITE 2u
#define PG_DONE       4u
#define PG_ROW        8u /* streaming: one row is in m->result; take it, then step again */

enum pg_state { PG_CLOSED, PG_IDLE, PG_PLAIN, PG_COPY_IN, PG_COPY_OUT, PG_PIPE, PG_BROKEN };

/* Groups at most that are in flight at the same time. */
enum { PG_MOST_GROUPS = 64 };

/* The statement's parameters as libpq takes them (PQsendQueryParams). */
struct pg_params {
    int n;
    const Oid *types;
    const char *const *values;
    const int *lengths;
    const int *formats;
    bool once; /* not worth a place in the cache */
};

/* Results of a group of several statements. */
struct pg_batch {
    PGresult **list; /* one for each statement; NULL when `count_only` */
    size_t n;        /* results so far: on failure, the index of the statement that failed */
    size_t cap;
    long long affected; /* rows that all of them counted */
    bool count_only;
    bool active;
};

struct pg_group {
    void *owner;       /* shared: whom m->settled tells; NULL: nobody waits for it any more */
    size_t statements; /* that must be answered before the sync */
};

struct pg_machine {
    PGconn *conn;
    struct pg_cache *cache;
    struct pg_catalog *catalog; /* the embedder's: types of the database's own; may be NULL */
    /* Tells the owner of a shared group how it ended: with a result (now the callee's), or with an error
     * (whose contents may be moved). It must not send on this machine. */
    void (*settled)(void *data, void *owner, PGresult *r, struct error *e);
    void *data;
    PGresult *result;        /* of the head of the queue; of the last group alone once step said PG_DONE */
    struct error failure;    /* of the head: its first error */
    struct error error;      /* of the last group alone once step said PG_DONE; of what was not sent */
    struct pg_cached *entry; /* of the statement that is alone in flight */
    struct pg_batch batch;
    struct pg_group group[PG_MOST_GROUPS]; /* a ring: `owed` of them from `head` on */
    uint32_t head;
    uint32_t owed; /* syncs sent - syncs seen */
    enum pg_state state;
    /* of the head of the queue */
    bool failed;
    size_t answered; /* statements */
    unsigned ahead;  /* results of DEALLOCATE and PREPARE in front of the statement's own */
    bool preparing;  /* the last of those tells whether the PREPARE worked */
    bool separated;  /* libpq's NULL was the last that came */
    bool cancelling; /* a cancel request was sent while it ran */
    /* of what is alone in flight */
    bool simple;         /* simple protocol: any number of results */
    bool copy;           /* it may begin a COPY: its caller goes on with that */
    bool streaming;      /* rows one by one instead of a whole result */
    bool discard;        /* nobody waits for it any more */
    bool unwanted;       /* a COPY that nobody asked for: it must be cancelled to end soon */
    bool refused;        /* a COPY FROM STDIN: the server has said no and throws away what still comes */
    bool forgotten;      /* the server has dropped its prepared statements (DISCARD ALL) */
    bool in_transaction; /* when it began */
    /* of the connection */
    bool shared;    /* PIPE: groups of many callers */
    bool leaving;   /* shared, and a cancel was sent: nothing joins before all of it has ended */
    bool doomed;    /* half of something was sent: the next step breaks it */
    bool flushing;  /* the socket is full */
    bool row_mode;  /* a statement since the last pipeline was in single-row mode */
    bool text_only; /* results in text even where binary could be read */
};

/* Of the parameters' number and types: a prepared statement is for these only. */
uint64_t pg_params_fingerprint(const struct pg_params *p);

/* ---- machine.c: life, and what can be asked ---- */

/* Takes over an established connection. `cache_limit` 0 = unnamed statements only. False when memory
 * is out; the connection is then still the caller's. */
bool pg_machine_init(struct pg_machine *m, PGconn *conn, uint32_t cache_limit,
                     void (*forget)(void *data, int ref), void *data);
/* Shared groups must have been settled (pg_machine_break) or abandoned: nobody is told here. */
void pg_machine_close(struct pg_machine *m);
/* The connection, now the caller's; the machine is closed. It must be idle. */
PGconn *pg_machine_detach(struct pg_machine *m);
int pg_machine_fd(const struct pg_machine *m);

/* In a transaction block, healthy or failed? */
bool pg_machine_in_transaction(const struct pg_machine *m);
/* Idle, with nothing outstanding and no transaction: fit for somebody else. */
bool pg_machine_is_clean(const struct pg_machine *m);
/* Does anything run or is anything owed? */
bool pg_machine_is_busy(const struct pg_machine *m);
/* May a cancel request be sent? A request hits what runs when it arrives: so only while nobody waits for
 * anything in flight, and once for each group that becomes the head. */
bool pg_machine_may_cancel(const struct pg_machine *m);
/* A cancel request is on its way. */
void pg_machine_cancel_sent(struct pg_machine *m);
/* Frees the results of a group of several statements. */
void pg_machine_batch_clear(struct pg_machine *m);
/* The result of the last statement, now the caller's; NULL when there is none. */
PGresult *pg_machine_take(struct pg_machine *m);

/* ---- machine_send.c: each begins a group that is alone; false: nothing was sent, m->error says why ---- */

/* One statement with parameters (extended protocol). What has a plan (SELECT, INSERT, ...) is prepared when
 * it is seen again with the same parameter types, and from then on read in binary when all its columns can
 * be. The texts are copied before it returns. */
bool pg_machine_query(struct pg_machine *m, const char *sql, size_t len, const struct pg_params *p);
/* Asks for the columns a statement would give, without running it: the result has them, and no rows. */
bool pg_machine_describe(struct pg_machine *m, const char *sql, const struct pg_params *p);
/* One or several statements without parameters (simple protocol). A COPY among them is refused. */
bool pg_machine_simple(struct pg_machine *m, const char *sql);
/* One COPY: step stops with PG_DONE in PG_COPY_IN or PG_COPY_OUT. */
bool pg_machine_copy(struct pg_machine *m, const char *sql);
/* Right after pg_machine_query said true: rows come one by one (PG_ROW). */
void pg_machine_stream(struct pg_machine *m);

/* Several statements, one group: begin, add each, end; then step to PG_DONE and look at m->batch. `add` with
 * an SQL of NULL runs the SQL given last once more, with other parameters, parsed only once. After `add` or
 * `end` said false the connection is broken; m->error says why. */
bool pg_machine_batch_begin(struct pg_machine *m, bool count_only);
bool pg_machine_batch_add(struct pg_machine *m, const char *sql, const struct pg_params *p);
bool pg_machine_batch_end(struct pg_machine *m);

/* ---- machine_share.c: groups of many callers ---- */

/* The entry of a statement that can join others on this connection, else NULL: prepared there, and of types
 * that nobody has to ask about. */
struct pg_cached *pg_machine_shareable(struct pg_machine *m, const char *sql, size_t len,
                                       const struct pg_params *p);
/* May one more group join (or begin)? Not while a cancel request may be under way, nor while the socket is
 * full. */
bool pg_machine_has_room(const struct pg_machine *m);
/* Sends a group of one. `owner` is told by m->settled, exactly once, unless it is abandoned first. False:
 * nothing of it was sent; what is in flight is settled by the next step, which breaks the connection. */
bool pg_machine_share(struct pg_machine *m, const struct pg_cached *e, const struct pg_params *p,
                      void *owner);
/* Nobody waits for this group any more: its reply is thrown away when it comes. */
void pg_machine_abandon(struct pg_machine *m, const void *owner);

/* ---- machine_step.c ---- */

/* Makes the progress that is possible now. `ready`: what the socket is ready for. */
unsigned pg_machine_step(struct pg_machine *m, unsigned ready);
/* The caller of what is alone in flight gives up: results are thrown away as they come, a COPY is ended. */
void pg_machine_discard(struct pg_machine *m);
/* Gives the connection up. Everything in flight is settled, now; m->error tells what became of what was
 * alone. Never waits. */
void pg_machine_break(struct pg_machine *m);

/* ---- machine_copy.c ---- */

/* COPY FROM STDIN. put: 1 = sent (or thrown away, once m->refused is set), 0 = queued: step until PG_DONE
 * before more, -1 = it could not be sent: end the COPY with a failure, the reply says why. end: `failure`
 * NULL = complete, else the COPY is made to fail with this text; then step to PG_DONE, also after
 * m->refused. */
int pg_machine_copy_put(struct pg_machine *m, const char *data, size_t len);
void pg_machine_copy_end(struct pg_machine *m, const char *failure);
/* Sets m->refused when an error of the server is next on the socket: libpq would tell of it only at the end
 * of the COPY. Best effort: not behind TLS, and not when libpq has read it already. */
void pg_machine_copy_look(struct pg_machine *m);
/* COPY TO STDOUT. > 0 = length of the row in *row (PQfreemem it), 0 = wait for reading, -1 = the end:
 * step to PG_DONE. */
int pg_machine_copy_get(struct pg_machine *m, char **row);

#endif
