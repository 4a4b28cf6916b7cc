/*
 * One PostgreSQL connection as a state machine over libpq. It never waits: send something, then call
 * pg_machine_step whenever the socket is ready for what the last step asked for, until it returns PG_DONE.
 * The driver decides how to wait, and for how long. The machine knows neither Lua nor the event loop.
 *
 * The machine keeps a FIFO of the groups in flight. A group is one or more statements and one sync (the
 * protocol's Sync, "Extended Query" and "Pipelining" in the manual): one implicit transaction, one error
 * boundary, one outcome. The server commits at the sync, so a group is settled only there: until then the
 * machine keeps the group's result, an error replaces the result, and a lost connection leaves the outcome
 * unknown.
 *
 * The connection (m->state, changed by set_state alone):
 *
 *        IDLE ---- query, simple, copy ------------------> PLAIN ---- NULL after the last result -----> IDLE
 *        PLAIN --- COPY answered, and asked for ---------> COPY_IN, COPY_OUT
 *        COPY_IN - copy_end, discard, step (lost) -------> PLAIN
 *        COPY_OUT  copy_get or step to its end ----------> PLAIN
 *        IDLE ---- preparing query, describe, batch, share > PIPE ---- last sync seen ----------------> IDLE
 *        any ----- lost, out of step, pg_machine_break --> BROKEN
 *        any ----- pg_machine_close ---------------------> CLOSED
 *
 * PLAIN is one group outside of libpq's pipeline mode; it begins only when the queue is empty, and no other
 * group joins it. (Alone, a statement costs about 1,100 instructions less than in pipeline mode.) PIPE is
 * either one group of the caller that steps ("alone"), or groups of many callers, added by pg_machine_share
 * ("shared").
 *
 * A group:     SENT --- its sync, each of its statements answered ---> settled
 *                 \--- an error, at the sync too ---> FAILED --- its sync ---> settled
 * A statement: waiting, answered, or skipped because an earlier statement of its group failed. Results come
 * in the order of the statements, so two counts are enough for all their states (m->answered,
 * group->statements).
 *
 * One switch in machine_step.c decides what each kind of result does to the head of the queue. An unexpected
 * result breaks the connection. The machine first shuts the socket down: libpq then cannot wait any more, but
 * what the kernel has received stays readable. Then it settles each group once: as failed if the group had
 * failed, else as unknown.
 *
 * Who owns what: the machine owns the PGconn, its statement cache, and the result and the failure of the
 * group at the head. The caller of a group that is alone takes them once step returns PG_DONE (m->result,
 * m->error); those of a shared group are handed to m->settled.
 */
#ifndef DBRUN_PG_MACHINE_H
#define DBRUN_PG_MACHINE_H

#include "base/error.h"
#include "pg/cache.h"
#include "pg/errors.h"
#include "pg/libpq.h"
#include "pg/types.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What pg_machine_step returns: the readiness to wait for, or PG_DONE, or PG_ROW. PG_WANT_READ and
 * PG_WANT_WRITE have the values of IO_READ and IO_WRITE. */
#define PG_WANT_READ  1u
#define PG_WANT_WRITE 2u
#define PG_DONE       4u
#define PG_ROW        8u /* streaming: one row is in m->result; take it, then step again */

enum pg_state { PG_CLOSED, PG_IDLE, PG_PLAIN, PG_COPY_IN, PG_COPY_OUT, PG_PIPE, PG_BROKEN };

/* A guarded transaction must not be ended by a statement: such a text is refused before it is sent. If the
 * server has ended the transaction all the same, every later statement is refused (PG_ENDED). */
enum pg_guard { PG_UNGUARDED, PG_GUARDED, PG_ENDED };

/* The error for a COPY that was run as a statement. */
#define PG_NO_COPY      "COPY FROM STDIN or TO STDOUT cannot be run as a statement"
#define PG_NO_COPY_HINT "Use copy_in (FROM STDIN) or copy_out (TO STDOUT)."

/* The most groups in flight on one connection. */
enum { PG_MOST_GROUPS = 64 };

/* The statement's parameters as libpq takes them (PQsendQueryParams). */
struct pg_params {
    int n;
    const Oid *types;
    const char *const *values;
    const int *lengths;
    const int *formats;
    bool once;    /* do not cache the statement */
    bool text;    /* results in text, unless the server guarantees the types of the columns */
    bool as_text; /* results always in text: the caller wants the server's texts */
};

/* A statement of a batch that runs by its name in the cache. */
struct pg_batch_use {
    struct pg_cached *e;
    size_t from;  /* the statement's index */
    size_t to;    /* the index of its last run with other parameters */
    size_t parse; /* 0: it was prepared before; else the number of the PREPARE that the batch sent for it */
};

/* Which statements of a batch run by name. */
struct pg_batch_names {
    struct pg_batch_use *use;
    size_t n;
    size_t cap;
    size_t distinct;        /* entries of the cache that the batch has used so far */
    size_t sent;            /* number of PREPAREs, of unnamed statements too */
    size_t answered;        /* how many of these were answered */
    struct pg_cached *last; /* the entry under whose name the last SQL ran; NULL: unnamed */
    bool off;               /* the rest of the batch runs unnamed */
    bool inside;            /* the batch began in a transaction */
};

/* The results of a group of several statements. */
struct pg_batch {
    PGresult **list; /* one for each statement; NULL when `count_only` */
    size_t n;        /* results so far; after a failure, the index of the statement that failed */
    size_t cap;
    long long affected; /* the sum of the affected rows */
    bool count_only;
    bool describing; /* only the parameter types are asked for; the statements do not run */
    bool parsed;     /* describing: the next result is the description */
    bool active;
    bool by_name; /* after a failure: the statement that failed was prepared before the batch */
    struct pg_batch_names names;
};

struct pg_group {
    void *owner;       /* shared: passed to m->settled; NULL: abandoned */
    size_t statements; /* the number that must be answered before the sync */
};

struct pg_machine {
    PGconn *conn;
    struct pg_cache *cache;
    struct pg_catalog *catalog; /* user-defined types; the embedder owns it; can be NULL */
    /* Tells the owner of a shared group how the group ended: with a result, which the callee takes over, or
     * with an error, whose contents it may move. The callee must not send on this machine. */
    void (*settled)(void *data, void *owner, PGresult *r, struct error *e);
    void *data;
    PGresult *result;        /* of the head of the queue; after PG_DONE, of the last group that was alone */
    struct error failure;    /* the first error of the head */
    struct pg_end end;       /* how the connection ended, when nothing was in flight */
    struct error error;      /* after PG_DONE, of the last group that was alone; or why nothing was sent */
    struct pg_cached *entry; /* the cache's entry of the statement that is alone */
    struct pg_batch batch;
    struct pg_group group[PG_MOST_GROUPS]; /* a ring: `owed` groups, from `head` on */
    uint32_t head;
    uint32_t owed; /* syncs sent - syncs received */
    enum pg_state state;
    /* of the head of the queue */
    bool failed;
    size_t answered; /* the number of answered statements */
    unsigned ahead;  /* results of DEALLOCATE and PREPARE that come before the statement's own */
    bool preparing;  /* the last of these results says that the PREPARE worked */
    bool separated;  /* the last reply was libpq's NULL */
    bool cancelling; /* a cancel request was sent while the group was the head */
    /* of the group that is alone */
    bool simple;         /* simple protocol: any number of results */
    bool copy;           /* the caller expects a COPY and transfers its data */
    bool streaming;      /* rows come one by one instead of in one result */
    bool undecided;      /* ... if the result turns out to be large */
    bool discard;        /* the caller has abandoned the group: discard the results */
    bool unwanted;       /* it began an unexpected COPY; COPY TO STDOUT must be cancelled */
    bool refused;        /* a COPY FROM STDIN failed: the server discards further data */
    bool forgotten;      /* the server has dropped its prepared statements (DISCARD ALL) */
    bool in_transaction; /* a transaction was open when the group began */
    bool in_failed;      /* ... and had failed; false after the first statement */
    bool hopeless;       /* that statement is a COMMIT: the server will roll back */
    bool more;           /* ... and other statements follow it, which may be committed */
    bool guessed;    /* binary results were asked for because the statement's columns allowed it last time */
    unsigned effect; /* enum pg_effect of its statements */
    size_t may_commit; /* the number of its first statement that may commit before it fails; 0: none */
    bool committed;    /* a COMMIT or PREPARE TRANSACTION in it has succeeded */
    bool unread;       /* guarded: the scanner cannot read its text */
    bool rolled_back;  /* a ROLLBACK in it has succeeded, perhaps to a savepoint */
    bool mending;      /* the settings on which values depend are being restored after it */
    bool unmended;     /* ... but could not be restored */
    /* of the connection */
    enum pg_guard guard;
    bool discarded; /* DISCARD ALL has run: the session has been reset; the embedder clears this */
    bool shared;    /* PIPE: groups of many callers */
    bool doomed;    /* libpq accepted only a part of a group: the next step breaks the connection */
    bool flushing;  /* bytes are queued that the socket has not taken yet */
    bool row_mode;  /* a statement since the last pipeline was in single-row mode */
    bool text_only; /* results in text even where binary could be read */
    bool in_doubt;  /* an open transaction has named a setting that values depend on */
    bool verbatim;  /* set by the embedder: settings stay as the statements leave them */
    bool bare; /* set by the embedder: the session's defaults are not the settings on which values depend */
    int encoding; /* libpq's number of client_encoding */
    /* When the cache's entries are out of date. The embedder sets the first two after pg_machine_init. */
    uint64_t cache_age;     /* ns from the server's parse; 0 = no limit */
    uint64_t *schema_epoch; /* raised by each committed DDL; shared by the connections of a program */
    uint64_t session_epoch; /* raised by each change of the session; its own DDL raises it at once */
    uint64_t
        reported; /* a hash of the settings that the server reports and that change a statement's meaning */
    unsigned pending;  /* what the open transaction has changed so far: enum pg_effect */
    uint64_t no_epoch; /* *schema_epoch of a connection that shares none */
    uint64_t batches;  /* the number of the last batch */
};

/* A hash of the number and the types of the parameters: a prepared statement takes only these. */
uint64_t pg_params_fingerprint(const struct pg_params *p);

/* ---- machine.c: opening, closing, queries about the state ---- */

/* Takes over an established connection. `cache_limit` 0 = unnamed statements only. False when out of memory;
 * the caller then still owns the connection. */
bool pg_machine_init(struct pg_machine *m, PGconn *conn, uint32_t cache_limit,
                     void (*forget)(void *data, int ref), void *data);
/* Shared groups must have been settled (pg_machine_break) or abandoned before, because this informs no
 * owner. */
void pg_machine_close(struct pg_machine *m);
/* Closes the machine and hands the connection over to the caller. The machine must be idle. */
PGconn *pg_machine_detach(struct pg_machine *m);
int pg_machine_fd(const struct pg_machine *m);

/* True in a transaction block, also in a failed one. */
static inline bool pg_machine_in_transaction(const struct pg_machine *m)
{
    PGTransactionStatusType t = PQtransactionStatus(m->conn);
    return t == PQTRANS_INTRANS || t == PQTRANS_INERROR;
}
/* True when the scanner (scan.h) finds the ends of this text's strings. It reads a backslash in '...' as an
 * ordinary character, but with standard_conforming_strings off a backslash escapes. */
bool pg_machine_is_scanned_right(const struct pg_machine *m, const char *sql, size_t len);
/* Called when the caller returns the connection: switches off what the caller has switched on (the guard,
 * `verbatim`). */
void pg_machine_given_back(struct pg_machine *m);
/* True when another caller can use the connection: it is idle and in no transaction. */
bool pg_machine_is_clean(const struct pg_machine *m);
/* True while a group is in flight. */
bool pg_machine_is_busy(const struct pg_machine *m);
/* True when a cancel request may be sent for work that no caller waits for (abandoned groups, an unexpected
 * COPY). The request cancels whatever runs when it arrives: so it is allowed only while no caller waits for a
 * group in flight, and once for each head. */
bool pg_machine_may_cancel(const struct pg_machine *m);
/* Called when the server ends the session while nothing is in flight: libpq then reports the server's error
 * as a notice. */
void pg_machine_note_end(struct pg_machine *m, const PGresult *r);
/* Notes that a cancel request is on its way. */
void pg_machine_cancel_sent(struct pg_machine *m);
/* Frees the results of a group of several statements. */
void pg_machine_batch_clear(struct pg_machine *m);
/* Hands the result of the last statement over to the caller; NULL when there is none. */
PGresult *pg_machine_take(struct pg_machine *m);

/* ---- machine_guard.c ---- */

/* Guards the open transaction, or ends the guard. */
void pg_machine_guard(struct pg_machine *m, bool on);
/* Sets m->error and returns false when the guard refuses this text. */
bool pg_machine_guard_allows(struct pg_machine *m, const char *sql);

/* ---- machine_send.c: each begins a group that is alone; false: nothing was sent, m->error says why ---- */

/* One statement with parameters (extended protocol). A statement with a plan (SELECT, INSERT, ...) is
 * prepared when it runs again with the same parameter types; from then on its result comes in binary if all
 * its columns can be read so. The texts are copied before the call returns. */
bool pg_machine_query(struct pg_machine *m, const char *sql, size_t len, const struct pg_params *p);
/* True when the server will refuse the statement if its columns differ from those of its last result. The
 * columns then need not be asked for. */
bool pg_machine_knows_columns(const struct pg_machine *m, const struct pg_cached *e);
/* True when the server finds the parameters of this text where `:name` was rewritten. False: m->error says
 * what to write instead. */
bool pg_machine_knows_parameters(struct pg_machine *m, const char *sql, size_t len, int n);
/* Asks for the columns of a statement without running it: the result has the columns and no rows. */
bool pg_machine_describe(struct pg_machine *m, const char *sql, const struct pg_params *p);
/* The same for a prepared statement of the cache: its columns as they were when it was prepared. */
bool pg_machine_describe_prepared(struct pg_machine *m, const struct pg_cached *e);
/* One or several statements without parameters (simple protocol). A COPY among them is refused. */
bool pg_machine_simple(struct pg_machine *m, const char *sql);
/* Sends an empty text, which the server only answers. */
bool pg_machine_ping(struct pg_machine *m);
/* One COPY: when its data can be transferred, step returns PG_DONE and the state is PG_COPY_IN or
 * PG_COPY_OUT. */
bool pg_machine_copy(struct pg_machine *m, const char *sql);
/* Makes rows come one by one (PG_ROW). Call it right after pg_machine_query returned true. */
void pg_machine_stream(struct pg_machine *m);
/* The same, but only if the result is large; a small one is cheaper as a whole. */
void pg_machine_stream_large(struct pg_machine *m);

/* ---- machine_batch.c ---- */

/* Several statements in one group: begin, add each, end; then step to PG_DONE and look at m->batch. `add`
 * with NULL as SQL runs the last SQL again with other parameters; the server parses it only once. After `add`
 * or `end` returned false the connection is broken; m->error says why.
 *
 * A statement that ran before is prepared, and runs by its name from then on, as outside a batch. Results are
 * in text. `unnamed`: no statement is prepared or run by name. */
bool pg_machine_batch_begin(struct pg_machine *m, bool count_only, bool unnamed);
bool pg_machine_batch_add(struct pg_machine *m, const char *sql, const struct pg_params *p);
bool pg_machine_batch_end(struct pg_machine *m);
/* After a batch failed with m->error: true when everything it did is undone, so that it can run again.
 * Statements run by name only where this holds, or in a transaction. */
bool pg_machine_batch_is_undone(const struct pg_machine *m);
/* Instead of `add`: the statement does not run; its result in m->batch.list has the types of its parameters
 * (PQparamtype). A batch either runs or describes its statements. */
bool pg_machine_batch_describe(struct pg_machine *m, const char *sql, const struct pg_params *p);

/* ---- machine_share.c: groups of many callers ---- */

/* The entry of the statement if it can share this connection, else NULL. The statement must be prepared
 * there, and all its column types must be built in, so that no type has to be looked up. */
struct pg_cached *pg_machine_shareable(struct pg_machine *m, const char *sql, size_t len,
                                       const struct pg_params *p);
/* Sends a group of one statement: the first group, or one more after groups that were sent since the last
 * step and not cancelled; at most PG_MOST_GROUPS. m->settled reports the end of the group to `owner` exactly
 * once, unless the group is abandoned first. False: the group does not count as sent; the next step breaks
 * the connection and settles what is in flight. */
bool pg_machine_share(struct pg_machine *m, const struct pg_cached *e, const struct pg_params *p,
                      void *owner);
/* Called when the owner no longer waits for its group: the reply is discarded when it comes. */
void pg_machine_abandon(struct pg_machine *m, const void *owner);

/* ---- machine_end.c ---- */

/* Abandons the connection and settles everything in flight; m->error says how a group that was alone ended.
 * Never waits. */
void pg_machine_break(struct pg_machine *m);

/* ---- machine_step.c ---- */

/* Sends and reads what is possible now. `ready`: what the socket is ready for. */
unsigned pg_machine_step(struct pg_machine *m, unsigned ready);
/* Abandons the group that is alone: its results are discarded as they come, and a COPY FROM STDIN is made to
 * fail. */
void pg_machine_discard(struct pg_machine *m);

/* ---- machine_copy.c ---- */

/* COPY FROM STDIN. put: 1 = sent (or discarded, once m->refused is set); 0 = queued: step until PG_DONE
 * before the next put; -1 = not sent: end the COPY with a failure, the reply says why. end: `failure` NULL =
 * the data is complete, else the COPY fails with this text; then step to PG_DONE, also after m->refused. */
int pg_machine_copy_put(struct pg_machine *m, const char *data, size_t len);
void pg_machine_copy_end(struct pg_machine *m, const char *failure);
/* Sets m->refused when the next message on the socket is an error: libpq would report it only at the end of
 * the COPY. Best effort: it finds nothing under TLS, or when libpq has already read the message. */
void pg_machine_copy_look(struct pg_machine *m);
/* COPY TO STDOUT. > 0 = length of the row in *row (free it with PQfreemem), 0 = wait until the socket can be
 * read, -1 = the end: step to PG_DONE. */
int pg_machine_copy_get(struct pg_machine *m, char **row);

#endif
