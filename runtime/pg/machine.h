/*
 * One PostgreSQL connection as a state machine over libpq. It never waits: begin a statement, then
 * call pg_machine_step whenever the socket is ready for what it asked for, until it says PG_DONE.
 * Who waits, and for how long, is the driver's business.
 *
 *                    begin                  step ... PG_DONE
 *        PG_IDLE ------------> PG_BUSY ------------------------> PG_IDLE
 *                                 |  COPY answered                  ^
 *                                 +----> PG_COPY_IN / PG_COPY_OUT --+ (copy_end, copy_get to the end)
 *        any state, connection lost: PG_BROKEN (only pg_machine_close leads out of it)
 *
 * Who owns what: the machine owns the PGconn, its cache, and the result and error of the last
 * statement until they are taken.
 */
#ifndef DBRUN_PG_MACHINE_H
#define DBRUN_PG_MACHINE_H

#include "base/error.h"
#include "pg/cache.h"
#include "pg/types.h"

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>

/* What pg_machine_step answers: the readiness to wait for, or PG_DONE. The two interests have the
 * values of IO_READ and IO_WRITE of the drivers. */
#define PG_WANT_READ  1u
#define PG_WANT_WRITE 2u
#define PG_DONE       4u
#define PG_ROW        8u /* streaming: one row is in m->result; take it, then step again */

enum pg_state { PG_CLOSED, PG_IDLE, PG_BUSY, PG_COPY_IN, PG_COPY_OUT, PG_BROKEN };

/* The statement's parameters as libpq takes them (PQsendQueryParams). */
struct pg_params {
    int n;
    const Oid *types;
    const char *const *values;
    const int *lengths;
    const int *formats;
    bool once; /* not worth a place in the cache */
};

/* Several statements in one round trip, as one implicit transaction: the first error ends the batch. */
struct pg_batch {
    PGresult **list; /* one for each statement; NULL when `count_only` */
    size_t n;        /* results so far: on failure, the index of the statement that failed */
    size_t cap;
    size_t added; /* statements */
    long long affected; /* rows that all of them counted */
    bool count_only;
    bool active;
};

struct pg_machine {
    PGconn *conn;
    struct pg_cache *cache;
    struct pg_cached *entry;    /* of the statement in flight */
    struct pg_catalog *catalog; /* the embedder's: types of the database's own; may be NULL */
    bool text_only;             /* results in text even where binary could be read */
    struct pg_batch batch;
    PGresult *result;   /* of the last statement that gave one */
    struct error error; /* the first error, preferring one with a SQLSTATE */
    enum pg_state state;
    int skip;       /* results in front of the statement's own (DEALLOCATE, PREPARE) */
    bool preparing; /* the result after `skip - 1` tells whether the PREPARE worked */
    bool pipelined;
    bool flushing;
    bool discard;        /* nobody waits for the results any more */
    bool cancelling;     /* a cancel request was sent while it ran */
    bool forgotten;      /* the server has dropped its prepared statements (DISCARD ALL) */
    bool in_transaction; /* when the statement began */
    bool row_mode;       /* a statement since the last pipeline was in single-row mode */
    bool streaming;      /* rows one by one instead of a whole result */
    bool refused;        /* a COPY FROM STDIN: the server has said no and throws away what still comes */
};

/* Past blanks, comments and opening parentheses. */
const char *pg_first_word(const char *sql);
/* Of the parameters' number and types: a prepared statement is for these only. */
uint64_t pg_params_fingerprint(const struct pg_params *p);

/* Takes over an established connection. `cache_limit` 0 = unnamed statements only. False when memory
 * is out; the connection is then still the caller's. */
bool pg_machine_init(struct pg_machine *m, PGconn *conn, uint32_t cache_limit,
                     void (*forget)(void *data, int ref), void *data);
void pg_machine_close(struct pg_machine *m);
int pg_machine_fd(const struct pg_machine *m);

/* Sends one statement with parameters (extended protocol). What has a plan (SELECT, INSERT, ...) is
 * prepared when it is seen again with the same parameter types, and from then on read in binary when all
 * its columns can be. The texts are copied before it returns. False: nothing was sent, m->error says why. */
bool pg_machine_query(struct pg_machine *m, const char *sql, size_t len, const struct pg_params *p);
/* Asks for the columns a statement would give, without running it: the result has them, and no rows. */
bool pg_machine_describe(struct pg_machine *m, const char *sql, const struct pg_params *p);
/* A batch: begin, add each statement, end; then step to PG_DONE and look at m->batch. `add` with an SQL of
 * NULL runs the SQL given last once more, with other parameters, parsed only once. False: m->error says
 * why; the batch must still be ended (it will then do nothing). */
bool pg_machine_batch_begin(struct pg_machine *m, bool count_only);
bool pg_machine_batch_add(struct pg_machine *m, const char *sql, const struct pg_params *p);
bool pg_machine_batch_end(struct pg_machine *m);
/* Frees the results. */
void pg_machine_batch_clear(struct pg_machine *m);

/* PQenterPipelineMode, and nothing of the statement before carries over. */
bool pg_machine_enter_pipeline(struct pg_machine *m);
/* Right after pg_machine_query said true: rows come one by one (PG_ROW). */
void pg_machine_stream(struct pg_machine *m);
/* Sends one or several statements without parameters (simple protocol). */
bool pg_machine_simple(struct pg_machine *m, const char *sql);
/* Makes the progress that is possible now. `ready`: what the socket is ready for. */
unsigned pg_machine_step(struct pg_machine *m, unsigned ready);
/* The caller gives up: results are thrown away as they come, a COPY is ended. */
void pg_machine_discard(struct pg_machine *m);
/* The result of the last statement, now the caller's; NULL when there is none. */
PGresult *pg_machine_take(struct pg_machine *m);

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

/* In a transaction block, healthy or failed? */
bool pg_machine_in_transaction(const struct pg_machine *m);
/* Idle, with nothing outstanding and no transaction: fit for somebody else. */
bool pg_machine_is_clean(const struct pg_machine *m);

#endif
