/*
 * Shared by the files of the PostgreSQL binding: engine, link, lease and operation.
 *
 *   engine  settings and a pool. Its block outlives the userdata while links or connects are left.
 *   link    one established connection in a pool slot: the machine plus who waits for it.
 *   lease   what a script holds after engine:acquire(): a link until it is released.
 *   op      one statement of one task, from checkout to result; reused by the task's next statement.
 *
 * What a link does (link->use), and what ends it:
 *   LINK_FREE       in the pool, idle             a statement begins; the socket says something
 *   LINK_STATEMENT  a task waits for it           the reply; the wait is abandoned -> LINK_DRAINING
 *   LINK_STREAM     rows are fetched one by one; the socket is read only while somebody waits for one
 *   LINK_SHARED     has statements of several tasks in flight (pipeline=, mux.h)
 *   LINK_DRAINING   cancelled: replies are thrown away and a cancel request is on its way
 *   LINK_PINGING    the pool asks whether it lives
 *   LINK_RESETTING  ROLLBACK (or DISCARD ALL) on return
 */
#ifndef DBRUN_BIND_PG_IMPL_H
#define DBRUN_BIND_PG_IMPL_H

#include "bind/base/error.h"
#include "bind/base/runtime.h"
#include "bind/pg/decode.h"
#include "bind/pg/notices.h"
#include "drive/drive_uv.h"
#include "pg/machine.h"
#include "pool/pool.h"
#include "task/where.h"

#define PG_ENGINE_CLASS "dbrun.pg.engine"
#define PG_LEASE_CLASS  "dbrun.pg.conn"
#define PG_RESULT_CLASS "dbrun.pg.result"
#define PG_PARAM_CLASS  "dbrun.pg.param"

/* A connection string as libpq wants it; shared by the engine and its connects. */
struct pg_conninfo {
    unsigned refs;
    char *target; /* "host:port" for messages */
    char **keywords;
    char **values;
};

enum pg_reset { PG_RESET_ROLLBACK, PG_RESET_FULL, PG_RESET_NONE };

struct pg_engine {
    struct runtime *rt;
    struct pool *pool;
    struct pg_conninfo *info;
    struct pg_connecting *connecting; /* connects under way */
    struct pg_engine *next;           /* of the runtime */
    struct pg_engine *prev;
    unsigned refs;
    struct pg_mux *mux; /* pipeline=: statements share connections; NULL = each takes its own */
    bool sync;
    bool closed;
    bool pre_ping;
    bool no_lookups; /* the catalog could not be asked: its types stay text */
    bool cache_off;  /* a pooler in between loses prepared statements */
    enum pg_reset reset;
    uint32_t cache_limit;
    double timeout; /* seconds, as all below */
    double connect_timeout;
    double command_timeout; /* 0 = none */
    double pre_ping_idle;
    struct pg_catalog *catalog; /* types of the database's own, as they were met */
    struct pg_decoder decoder;
    int on_connect; /* the script's functions, in the registry; LUA_NOREF = none */
    int on_notice;
    struct pg_notices notices; /* from shared connections */
    size_t large_result;       /* bytes of a result that the log tells; 0 = never */
    char name[16];
};

enum pg_link_use {
    LINK_FREE,
    LINK_STATEMENT,
    LINK_STREAM,
    LINK_SHARED,
    LINK_DRAINING,
    LINK_PINGING,
    LINK_RESETTING
};

struct pg_link {
    struct pg_engine *engine;
    struct pool_slot *slot;
    struct pg_machine m;
    struct drive_uv *io; /* NULL on the sync engine */
    struct wait *waiter;
    struct pg_mux_conn *mux_conn; /* LINK_SHARED: who shares it */
    struct pg_stream *stream;     /* whoever iterates over its rows */
    unsigned stream_step;         /* what the step said that woke it */
    struct sched_timer gone;      /* brings the news of a socket that libpq closed while it sent */
    struct sched_timer limit;     /* of a ping, a drain, a reset */
    enum pg_link_use use;
    struct pg_cancel_job *cancel; /* a request under way: the link is nobody's until it is answered */
    bool reset_after_drain;
    bool writer;   /* target_session_attrs asks for a server that takes writes, and this one did */
    int on_notice; /* of its lease; LUA_NOREF = the engine's */
    struct pg_notices notices;
    bool telling;  /* a handler runs: nothing else may happen on it */
    bool answered; /* whoever waited has been woken and has not gone on yet: the answer is still its own */
    bool fresh;    /* on_connect has not seen it yet */
    bool patient;  /* draining, but not cancelled yet */
    uint64_t deadline; /* sync: of what its lease does, set by a transaction; DEADLINE_NEVER = none */
    double deadline_after;
    bool in_background;
    int pid;
    char where[SCRIPT_WHERE]; /* script line of the acquire; "" = not leased by a script */
    const struct task *task;  /* whose single statement it runs; NULL while it is leased */
    char statement[96];       /* the beginning of the last one */
};

struct pg_lease {
    struct pg_engine *engine;
    struct pg_link *link; /* NULL = released */
};

/* What the caller wants to see of a result. */
enum pg_shape { SHAPE_RESULT, SHAPE_ONE, SHAPE_VALUE, SHAPE_AFFECTED, SHAPE_COLUMNS };

enum pg_stage {
    STAGE_IDLE,
    STAGE_SHARED,
    STAGE_ACQUIRE,
    STAGE_ACQUIRED,
    STAGE_CONNECTED,
    STAGE_DRAINED,
    STAGE_SEND,
    STAGE_REPLY
};

struct pg_op {
    struct pg_engine *engine;
    struct pg_link *link;
    struct pg_lease *lease;   /* NULL: the statement takes and gives back a connection by itself */
    struct pg_stream *stream; /* on the stack: takes the connection over once the statement is sent */
    struct pool_waiter waiter;
    struct wait *wait;
    PGresult *result;
    struct error error;
    enum pg_stage stage;
    enum pg_shape shape;
    int nparams; /* on the stack from index 3 on; 1 = engine or lease, 2 = the SQL */
    bool simple;
    int top;                   /* of the stack, while on_connect runs */
    struct pg_lease *newcomer; /* what on_connect gets: anchored on the stack */
    bool acquire_only;
    bool describe_only;
    bool retried;
    struct pg_shared *shared; /* STAGE_SHARED: the statement as the mux has it */
    struct pg_cached *entry;  /* of the statement, while the catalog is asked about its types */
    bool looking_up;
    bool describing; /* rows: asks for the columns first ... */
    bool described;  /* ... once */
};

/* ---- module.c ---- */
/* The engine at 1; raises when it has been closed. */
struct pg_engine *pg_engine_check(lua_State *L);
void pg_engine_ref(struct pg_engine *e);
void pg_engine_unref(struct pg_engine *e);
extern const struct pool_ops pg_pool_ops;

/* ---- pool_error.c ---- */
/* Sets `err` to the pool's answer, with who holds the connections. */
void pg_engine_pool_error(struct pg_engine *e, enum pool_settle result, struct error *err);

/* ---- connect.c ---- */
void pg_conninfo_unref(struct pg_conninfo *info);
void pg_connect_slot(struct pool_slot *slot);
/* The engine is going: connects under way end by themselves and are thrown away. */
void pg_connects_forget(struct pg_engine *e);

/* ---- link.c ---- */
/* Takes over the connection; NULL (and it is closed) when memory is out. */
struct pg_link *pg_link_new(struct pg_engine *e, struct pool_slot *slot, PGconn *conn);
void pg_link_free(struct pg_link *link);
/* Its server took writes when it was opened, as its address asks for, and does not any more. */
bool pg_link_is_demoted(const struct pg_link *link);
/* After pg_machine_query/simple said true: waits as the engine does and goes on in k. */
int pg_link_wait(lua_State *L, struct pg_link *link, double timeout, lua_KContext ctx, lua_KFunction k);
/* Async: waits until a cancelled statement has been drained. */
int pg_link_wait_drained(lua_State *L, struct pg_link *link, lua_KContext ctx, lua_KFunction k);
/* Is a cancelled statement, or the request that cancels it, still under way? */
bool pg_link_is_draining(struct pg_link *link);
/* Nobody waits for what is in flight any more: what runs is cancelled, and all of it has a limit from now on.
 */
void pg_link_cancel_shared(struct pg_link *link);
/* All in flight has ended. A cancel request that is still under way keeps the link from the next user. */
void pg_link_shared_over(struct pg_link *link);
/* The lease is released while a task waits for its statement: that one is cancelled, its task woken. */
void pg_link_take_away(struct pg_link *link);
/* Asks the server to cancel what runs now; whoever waits for it gets 57014. */
void pg_link_request_cancel(struct pg_link *link);
/* Seconds that a cancelled statement has to end before its connection is given up. */
#define PG_DRAIN_LIMIT 2.0
/* After something was sent: watches for what the socket did not take. A server that is gone can make libpq
 * close its socket while it sends; libuv must not watch that any more, so the loop tells the news itself. */
void pg_link_watch(struct pg_link *link);
/* The blocking form of cancelling: the request, then `grace` seconds to end; else the connection is broken.
 */
void pg_link_cancel_blocking(struct pg_link *link, double grace);
/* Steps to the end, or to the next row, blocking. */
enum drive_status pg_link_step_blocking(struct pg_link *link, unsigned *step, uint64_t deadline);
/* Ends a ping, drain or reset at once: the connection is closed. */
void pg_link_give_up(struct pg_link *link);
/* Nobody waits any more: what still comes is thrown away. It is cancelled at once, or (in a transaction,
 * which a cancel would end) when it has not ended by itself after `grace` seconds. */
void pg_link_abandon(struct pg_link *link, double grace);
void pg_link_warn_cancelled(const struct pg_link *link);
enum pool_check pg_link_check(struct pool_slot *slot, uint64_t idle_ns);
void pg_link_ping(struct pool_slot *slot);
enum pool_verdict pg_link_judge(struct pool_slot *slot);
void pg_link_reset(struct pool_slot *slot);
void pg_link_close(struct pool_slot *slot);

/* ---- params.c ---- */
enum { PG_PARAMS_INLINE = 16 };
/* Parameters in libpq's form; the texts point into the Lua stack and into `text`. */
struct pg_encoded {
    struct pg_params p;
    void *block; /* NULL when the arrays below were enough */
    Oid types[PG_PARAMS_INLINE];
    const char *values[PG_PARAMS_INLINE];
    int lengths[PG_PARAMS_INLINE];
    int formats[PG_PARAMS_INLINE];
    char numbers[PG_PARAMS_INLINE][32];
};
/* Raises for a value that cannot be a parameter, naming its number. Replaces what must be turned into
 * text (wrapped values) on the stack. Called before a connection is taken. */
void pg_params_check(lua_State *L, struct runtime *rt, int first, int n);
/* A longer one would not fit into a message that the server takes (MaxAllocSize): it would hang up. */
#define PG_SQL_MAX ((1u << 30) - (1u << 20))
/* Can the value at this index be a parameter (or a COPY column)? */
bool pg_param_is_allowed(lua_State *L, int at);
/* A number as the text that reads back as the same value. */
void pg_param_number(lua_State *L, int at, char out[32]);
/* Never raises. False when memory is out. */
bool pg_params_encode(lua_State *L, int first, int n, struct pg_encoded *out);
void pg_params_free(struct pg_encoded *enc);
/* db.bytea, db.json, db.typed, db.array */
extern const luaL_Reg pg_param_functions[];

/* ---- result.c ---- */
/* Pushes the list of columns. A prepared statement has the same ones every time: they are made once and
 * kept with it. */
void pg_result_columns(lua_State *L, const struct pg_decoder *d, const PGresult *r, struct pg_cached *entry);
/* Pushes the result in its shape (SHAPE_RESULT takes its columns from the top of the stack); raises
 * (one: more than one row). */
int pg_result_push(lua_State *L, struct runtime *rt, const struct pg_decoder *d, const PGresult *r,
                   enum pg_shape shape);

/* Pushes a row with the column names that stand on the stack from `keys` on. */
void pg_result_push_row(lua_State *L, const struct pg_decoder *d, const PGresult *r, int keys);

/* ---- stream.c ---- */
/* What is read from a connection piece by piece: rows, or a COPY (copy_out.c). */
struct pg_stream {
    struct pg_link *link; /* NULL = at the end */
    PGresult *row;
    bool own;       /* it gives the connection back at the end */
    bool lost;      /* the lease was released before the end */
    unsigned first; /* the step that was made before it was attached; 0 = none */
};
/* A row iterator that holds no connection yet. */
struct pg_stream *pg_stream_new(lua_State *L);
/* The statement has been sent on the link. `own`: give it back to the pool at the end. */
void pg_stream_attach(struct pg_stream *s, struct pg_link *link, bool own);
/* As above, when the first row has come (it is the machine's result), or there is none. */
void pg_stream_attach_ready(struct pg_stream *s, struct pg_link *link, bool own);
/* The link is going to somebody else, or away. */
void pg_stream_detach(struct pg_stream *s);
/* Read to the end: the connection goes back. */
void pg_stream_finish(struct pg_stream *s);
/* Not read to the end: what is left is thrown away, and cancelled when it has not arrived yet. */
void pg_stream_stop(struct pg_stream *s);
/* The loop was left. In a transaction that goes on (not `failed`) a cancel has time. */
void pg_stream_leave(struct pg_stream *s, bool failed);
/* Collected without its block having ended: it must not block. */
void pg_stream_collected(struct pg_stream *s);
/* Raises inside of a codec, whose text belongs to the stream. */
void pg_stream_check_codec(lua_State *L, const struct pg_stream *s);
/* May the next piece be asked for? False at the end; raises where nothing can wait, or when the lease was
 * released meanwhile. */
bool pg_stream_check_next(lua_State *L, struct pg_stream *s);
/* Async: waits for the socket and goes on in k, which calls pg_stream_resumed first (false = at the end). */
int pg_stream_park(lua_State *L, struct pg_stream *s, unsigned want, lua_KFunction k);
bool pg_stream_resumed(lua_State *L, struct pg_stream *s);
/* Sync: waits for the socket and steps. Raises when it took too long, or was interrupted. */
void pg_stream_poll_blocking(lua_State *L, struct pg_stream *s, unsigned want);
/* The lease is released in the middle of the rows: the next one is an error, not the end. */
void pg_stream_lose(struct pg_stream *s);
/* Pushes what `for row in engine:rows(...)` takes: the stream stands at `index`. */
int pg_stream_push_iterator(lua_State *L, int index);
void pg_stream_class(lua_State *L, struct runtime *rt);

/* ---- recovery.c ---- */
/* May the statement that failed be run once more, by itself? Only when the server had forgotten the prepared
 * one or its columns have changed, and nothing else hangs on it. */
bool pg_op_may_run_again(struct pg_op *op, struct pg_cached *entry);
/* Did it fail for what a connection keeps between statements, not for the statement itself? */
bool pg_op_is_of_cache(const struct error *e);
/* Fills in what only the caller of the machine knows: the SQL, and whether lost work was lost. */
void pg_op_complete_error(struct pg_op *op, const char *sql);

/* ---- op.c ---- */
void pg_op_classes(lua_State *L, struct runtime *rt);
/* Methods of engines and of leases: a statement with parameters ... */
int pg_statement(lua_State *L, struct pg_engine *e, struct pg_lease *lease, enum pg_shape shape);
/* ... one or several without (simple protocol) ... */
int pg_script(lua_State *L, struct pg_engine *e, struct pg_lease *lease);
/* ... the columns of one, which does not run ... */
int pg_describe(lua_State *L, struct pg_engine *e, struct pg_lease *lease);
/* ... a row iterator ... */
int pg_rows(lua_State *L, struct pg_engine *e, struct pg_lease *lease);
/* ... or only the checkout: returns a lease. */
int pg_acquire(lua_State *L, struct pg_engine *e);

/* ---- lookup.c ---- */
/* Have the results columns of types that the catalog must be asked about (and can it be, now)? */
bool pg_lookup_needed(const struct pg_link *link, PGresult *const *list, size_t n);
/* Asks; then step the machine to its end. False: m.error says why not. */
bool pg_lookup_send(struct pg_link *link, PGresult *const *results, size_t n);
/* The answer has come, or an error. Where the catalog is closed to the role, values of such types stay text,
 * always; any other failure is an error (false), for the same statement must not give this today and that
 * tomorrow. */
bool pg_lookup_done(struct pg_link *link, struct error *err);
/* Adds to that error that the statement itself has run. */
void pg_lookup_tell(struct pg_link *link, struct error *err);

/* ---- lease.c ---- */
/* Pushes a lease that holds nothing yet. */
struct pg_lease *pg_lease_new(lua_State *L);
void pg_lease_class(lua_State *L, struct runtime *rt);

/* The lease at 1, which must still hold its connection. */
struct pg_lease *pg_lease_check(lua_State *L);
/* Raises when the lease was released, or another task uses it. (It may still be draining.) */
void pg_lease_check_free(lua_State *L, struct pg_lease *lease);
/* For methods that send by themselves: the link of the lease at 1. Raises as pg_lease_check_free, and where
 * nothing can wait. */
struct pg_link *pg_lease_link(lua_State *L);
/* In the continuation of a method of the lease at 1: ends its wait. Raises when that was cut short, or when
 * somebody released the lease meanwhile; `what` begins the message. */
void pg_lease_waited(lua_State *L, struct pg_link *link, int status, const char *what);
/* Raises the error of a statement whose lease was released while it ran. */
int pg_lease_lost(lua_State *L, struct runtime *rt);

/* ---- named.c ---- */
/* Stack 2 = SQL with :name parameters, 3 = the table of their values. Replaces 2 by the SQL with $n and
 * the table by the values in order; returns their number. */
int pg_named_expand(lua_State *L, struct runtime *rt);
/* lua_CFunction: named(sql) -> {sql with $n, name, name, ...} */
int pg_named_plan(lua_State *L);

/* ---- batch.c ---- */
void pg_batch_class(lua_State *L, struct runtime *rt);
int pg_lease_batch(lua_State *L);
int pg_lease_batch_many(lua_State *L);

/* ---- copy.c: the rest of COPY is in copy.h ---- */
int pg_copy_begin(lua_State *L);
int pg_copy_send(lua_State *L);
int pg_copy_end(lua_State *L);

#endif
