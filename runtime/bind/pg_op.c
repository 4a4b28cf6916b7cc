/*
 * One statement of one task, from checkout to result. It is one C function with one yield: the stages
 * below are where it may be resumed. Stack: 1 = engine or lease, 2 = SQL, 3.. = parameters, then the op.
 *
 *   ACQUIRE  take a connection, or queue            -> ACQUIRED (parked) or SEND
 *   ACQUIRED the pool has answered                  -> SEND, or raises
 *   DRAINED  the lease's cancelled statement ended  -> SEND
 *   SEND     parameters are encoded and sent        -> REPLY (parked on the async engine)
 *   REPLY    the connection goes back, the result becomes Lua values (or the error is raised)
 */
#include "base/deadline.h"
#include "bind/pg_impl.h"

#include <string.h>

#define OP_CLASS "dbrun.pg.op"

static int op_k(lua_State *L, int status, lua_KContext ctx);
static int leased(lua_State *L, struct pg_op *op);
static int looked_up(lua_State *L, struct pg_op *op);
static bool is_lost(const struct pg_op *op);
static int op_raise_lost(lua_State *L, struct pg_op *op);

/* ---- the op ---- */

/* What a statement that was cut short (by an error in between) left behind. */
static void op_clean(struct pg_op *op)
{
    struct pg_engine *e = op->engine;
    if (e && op->stage == STAGE_SHARED && op->wait)
        pg_mux_remove(e->mux, op);
    if (e && op->stage == STAGE_ACQUIRED && op->waiter.result == POOL_WAITING)
        pool_cancel(e->pool, &op->waiter, false, mono_now());
    else if (e && op->stage == STAGE_ACQUIRED && op->waiter.result == POOL_GRANTED && op->waiter.slot)
        pool_discard(e->pool, op->waiter.slot, mono_now()); /* granted, but its task was never resumed */
    if (e && op->link && !op->lease)
        pool_discard(e->pool, op->link->slot, mono_now());
    PQclear(op->result);
    error_clear(&op->error);
    error_clear(&op->waiter.error);
    memset(op, 0, sizeof *op);
    if (e)
        pg_engine_unref(e);
}

static int op_gc(lua_State *L)
{
    op_clean(lua_touserdata(L, 1));
    return 0;
}

void pg_op_classes(lua_State *L, struct runtime *rt)
{
    static const luaL_Reg meta[] = {{"__gc", op_gc}, {NULL, NULL}};
    bind_class(L, rt, OP_CLASS, meta, NULL);
    lua_pop(L, 1);
}

/* The current task's op, pushed on the stack so that it lives as long as this call does. One that is in
 * use (a finaliser that queries while a result is being made) is left alone. */
static struct pg_op *op_take(lua_State *L, struct runtime *rt)
{
    struct pg_op *op = task_scratch(rt->sched);
    if (op && op->stage == STAGE_IDLE) {
        task_push_scratch(L, rt->sched);
        return op;
    }
    op = lua_newuserdatauv(L, sizeof *op, 0);
    memset(op, 0, sizeof *op);
    luaL_setmetatable(L, OP_CLASS);
    lua_pushvalue(L, -1);
    task_set_scratch(L, rt->sched, op);
    return op;
}

static int op_raise(lua_State *L, struct pg_op *op)
{
    struct runtime *rt = op->engine->rt;
    struct error e = {0};
    error_move(&e, &op->error);
    op_clean(op);
    return bind_error_raise(L, rt, &e);
}

static int op_raise_cancelled(lua_State *L, struct pg_op *op)
{
    struct sched *s = op->engine->rt->sched;
    op_clean(op);
    return task_raise_cancelled(L, s);
}

/* ---- checkout ---- */

static void waiter_settled(struct pool_waiter *w)
{
    struct pg_op *op = (struct pg_op *)((char *)w - offsetof(struct pg_op, waiter));
    wait_wake(op->wait);
    op->wait = NULL;
}

static void abandon_checkout(struct wait *w)
{
    struct pg_op *op = w->data;
    op->wait = NULL;
    pool_cancel(op->engine->pool, &op->waiter, mono_now() >= w->timer.deadline, mono_now());
}

static int checkout_failed(lua_State *L, struct pg_op *op, enum pool_settle result)
{
    op->stage = STAGE_REPLY; /* nothing is queued any more */
    if (result == POOL_FAILED)
        error_move(&op->error, &op->waiter.error);
    else
        pg_engine_pool_error(op->engine, result, &op->error);
    return op_raise(L, op);
}

static int checkout(lua_State *L, struct pg_op *op)
{
    struct pg_engine *e = op->engine;
    /* Its number, not its address: a lease may outlive its task, whose memory then becomes another's. */
    const void *owner = (const void *)(uintptr_t)task_id(task_current(e->rt->sched));
    op->waiter = (struct pool_waiter){.owner = owner, .nowait = e->sync, .settled = waiter_settled};
    op->stage = STAGE_ACQUIRED;
    enum pool_settle result = pool_acquire(e->pool, &op->waiter, mono_now());
    if (result == POOL_WAITING) {
        op->wait = wait_begin(e->rt->sched, deadline_in(e->timeout), abandon_checkout, op);
        return wait_park(L, op->wait, (lua_KContext)op, op_k);
    }
    if (result != POOL_GRANTED)
        return checkout_failed(L, op, result);
    return op_k(L, LUA_OK, (lua_KContext)op);
}

/* Who holds the connection, for the error that others get when they wait too long. */
static void note_place(lua_State *L, struct pg_link *link)
{
    lua_Debug ar;
    for (int level = 1; lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "Sl", &ar);
        if (ar.currentline > 0 && strncmp(ar.short_src, "dbrun/", 6) != 0) {
            strcpy(link->source, ar.short_src);
            link->line = ar.currentline;
            return;
        }
    }
}

/* The pool has answered: at once, or while the task was parked. */
static int checked_out(lua_State *L, struct pg_op *op, bool parked)
{
    if (parked) {
        switch (wait_end(task_wait(op->engine->rt->sched))) {
        case WAIT_CANCELLED:
            return op_raise_cancelled(L, op);
        case WAIT_TIMEOUT:
            return checkout_failed(L, op, POOL_WAITING);
        default:
            break;
        }
    }
    if (op->waiter.result != POOL_GRANTED)
        return checkout_failed(L, op, op->waiter.result);
    op->link = op->waiter.slot->conn;
    op->waiter.slot = NULL; /* the op holds it by its link now */
    return leased(L, op);
}

/* The op has its connection. */
static int leased(lua_State *L, struct pg_op *op)
{
    if (op->link->fresh) {
        op->top = lua_gettop(L);
        op->stage = STAGE_CONNECTED;
        op->newcomer = pg_connect_event(L, &op->link);
        return op_k(L, lua_pcallk(L, 1, 0, 0, (lua_KContext)op, op_k), (lua_KContext)op);
    }
    if (op->acquire_only) {
        struct pg_lease *lease = lua_touserdata(L, 2);
        lease->link = op->link;
        note_place(L, lease->link);
        op->link = NULL;
        op_clean(op);
        lua_settop(L, 2);
        return 1;
    }
    op->link->task = task_current(op->engine->rt->sched);
    op->stage = STAGE_SEND;
    return op_k(L, LUA_OK, (lua_KContext)op);
}

/* on_connect has returned, or raised. */
static int connected(lua_State *L, struct pg_op *op, int status)
{
    struct runtime *rt = op->engine->rt;
    op->link = pg_connected(L, op->newcomer, status);
    op->newcomer = NULL;
    if (op->link) {
        lua_settop(L, op->top);
        return leased(L, op);
    }
    op_clean(op);
    if (lua_type(L, -1) != LUA_TSTRING)
        return lua_error(L);
    struct error e = {0};
    error_set(&e, ERROR_CONNECT, "%s", lua_tostring(L, -1));
    e.outcome = OUTCOME_NOT_SENT;
    return bind_error_raise(L, rt, &e);
}

/* ---- shared connections (pipeline=) ---- */

static void abandon_shared(struct wait *w)
{
    struct pg_op *op = w->data;
    op->wait = NULL;
    pg_mux_remove(op->engine->mux, op);
}

static int share(lua_State *L, struct pg_op *op)
{
    struct pg_engine *e = op->engine;
    double limit = e->timeout + e->command_timeout;
    op->L = L;
    op->stage = STAGE_SHARED;
    op->wait = wait_begin(e->rt->sched, deadline_in(limit), abandon_shared, op);
    pg_mux_add(e->mux, op);
    return wait_park(L, op->wait, (lua_KContext)op, op_k);
}

static int shared(lua_State *L, struct pg_op *op)
{
    struct pg_engine *e = op->engine;
    switch (wait_end(task_wait(e->rt->sched))) {
    case WAIT_CANCELLED:
        return op_raise_cancelled(L, op);
    case WAIT_TIMEOUT:
        error_set(&op->error, ERROR_TIMEOUT, "the statement did not end within %g s",
                  e->timeout + e->command_timeout);
        op->error.outcome = OUTCOME_UNKNOWN;
        error_set_field(&op->error, ERROR_STATEMENT, lua_tostring(L, 2));
        return op_raise(L, op);
    default:
        break;
    }
    if (op->link) /* it got the connection for itself */
        return leased(L, op);
    pg_notices_tell_shared(L, e);
    if (error_is_set(&op->error)) {
        const char *state = op->error.field[ERROR_SQLSTATE];
        bool again = state && !op->alone &&
                     (strcmp(state, "26000") == 0 ||
                      (strcmp(state, "0A000") == 0 && strstr(op->error.message, "cached plan")));
        if (again) { /* on a connection of its own, where the cache is mended */
            error_clear(&op->error);
            op->alone = true;
            return share(L, op);
        }
        error_set_field(&op->error, ERROR_STATEMENT, lua_tostring(L, 2));
        return op_raise(L, op);
    }
    if (op->shape == SHAPE_RESULT)
        pg_result_columns(L, &e->decoder, op->result, NULL);
    int n = pg_result_push(L, e->rt, &e->decoder, op->result, op->shape);
    op_clean(op);
    return n;
}

/* ---- sending ---- */

static void note_statement(struct pg_link *link, const char *sql, size_t len)
{
    size_t n = len < sizeof link->statement - 1 ? len : sizeof link->statement - 1;
    while (n > 0 && n < len && ((unsigned char)sql[n] & 0xc0) == 0x80) /* not inside a character */
        n--;
    memcpy(link->statement, sql, n);
    link->statement[n] = '\0';
}

/* The first row is there, or it is known that there is none: from here on the stream holds the connection.
 * Stack: parameters, stream, op. */
static int hand_to_stream(lua_State *L, struct pg_op *op)
{
    struct pg_link *link = op->link;
    int index = 3 + op->nparams;
    if (!op->lease)
        note_place(L, link); /* the rows may be read by another task than this */
    link->task = NULL;
    pg_stream_attach_ready(op->stream, link, op->lease == NULL);
    op->link = NULL;
    op_clean(op);
    return pg_stream_push_iterator(L, index);
}

static int send_statement(lua_State *L, struct pg_op *op)
{
    struct pg_link *link = op->link;
    size_t len;
    const char *sql = lua_tolstring(L, 2, &len);
    bool sent = false;
    op->stage = STAGE_REPLY;
    note_statement(link, sql, len);
    if (op->engine->cache_off)
        pg_cache_disable(link->m.cache);
    if (op->simple) {
        sent = pg_machine_simple(&link->m, sql);
    } else if (op->describe_only) {
        sent = pg_machine_describe(&link->m, sql);
    } else {
        struct pg_encoded enc;
        if (pg_params_encode(L, 3, op->nparams, &enc)) {
            sent = pg_machine_query(&link->m, sql, len, &enc.p);
            pg_params_free(&enc);
        } else {
            error_set(&link->m.error, ERROR_QUERY, "not enough memory for the parameters");
        }
    }
    if (!sent)
        return op_k(L, LUA_OK, (lua_KContext)op);
    if (op->stream)
        pg_machine_stream(&link->m);
    return pg_link_wait(L, link, op->engine->command_timeout, (lua_KContext)op, op_k);
}

/* ---- the reply ---- */

static void give_back(struct pg_op *op)
{
    struct pg_link *link = op->link;
    op->link = NULL;
    if (!op->lease)
        pool_release(op->engine->pool, link->slot, mono_now());
}

static void warn_when_large(lua_State *L, const struct pg_op *op)
{
    size_t limit = op->engine->large_result;
    size_t bytes = limit && op->result ? PQresultMemorySize(op->result) : 0;
    if (bytes > limit)
        pg_warn_large(L, op->engine, bytes, PQntuples(op->result), lua_tostring(L, 2));
}

/* The connection goes back; then the result becomes Lua values. */
static int deliver(lua_State *L, struct pg_op *op)
{
    struct pg_engine *e = op->engine;
    if (op->shape == SHAPE_RESULT && op->result)
        pg_result_columns(L, &e->decoder, op->result, op->entry);
    pg_notices_tell(L, op->link);
    warn_when_large(L, op);
    give_back(op);
    if (!op->result) { /* an empty statement */
        op_clean(op);
        return 0;
    }
    int n = op->describe_only ? 1 : pg_result_push(L, e->rt, &e->decoder, op->result, op->shape);
    op_clean(op);
    return n;
}

static bool has_unknown_types(const struct pg_op *op)
{
    const struct pg_engine *e = op->engine;
    if (e->no_lookups || op->link->m.state != PG_IDLE)
        return false;
    for (int c = 0; c < PQnfields(op->result); c++)
        if (!pg_type_is_known(e->catalog, PQftype(op->result, c)))
            return true;
    return false;
}

/* Types of the database's own are looked up once, on the same connection, before the result is read. */
static int look_up(lua_State *L, struct pg_op *op)
{
    static const Oid types[] = {0};
    static const int zeros[] = {0};
    struct buf list = {0};
    for (int c = 0; c < PQnfields(op->result); c++)
        if (!pg_type_is_known(op->engine->catalog, PQftype(op->result, c)))
            buf_addf(&list, "%s%u", list.len ? "," : "{", PQftype(op->result, c));
    buf_adds(&list, "}");
    const char *values[] = {list.data};
    struct pg_params p = {
        .n = 1, .types = types, .values = values, .lengths = zeros, .formats = zeros, .once = true};
    bool sent = !list.oom && pg_machine_query(&op->link->m, pg_catalog_sql, strlen(pg_catalog_sql), &p);
    buf_free(&list);
    op->looking_up = true;
    if (!sent)
        return looked_up(L, op);
    return pg_link_wait(L, op->link, op->engine->command_timeout, (lua_KContext)op, op_k);
}

/* The statement itself has succeeded: what goes wrong here only leaves its values as text. */
static int looked_up(lua_State *L, struct pg_op *op)
{
    struct pg_engine *e = op->engine;
    struct pg_machine *m = &op->link->m;
    if (error_is_set(&m->error) || !m->result || !pg_catalog_load(e->catalog, m->result)) {
        e->no_lookups = true;
        log_write(e->rt->log, LOG_LEVEL_WARN, "postgres: the catalog could not be asked about types: %s",
                  m->error.message ? m->error.message : "not enough memory");
    }
    op->looking_up = false;
    return deliver(L, op);
}

static int replied(lua_State *L, struct pg_op *op, bool parked)
{
    struct pg_link *link = op->link;
    struct sched *s = op->engine->rt->sched;
    enum wait_status how = parked ? wait_end(task_wait(s)) : WAIT_DONE;
    if (how == WAIT_CANCELLED) {
        give_back(op);
        return op_raise_cancelled(L, op);
    }
    if (is_lost(op))
        return op_raise_lost(L, op);
    if (how == WAIT_TIMEOUT) {
        error_set(&op->error, ERROR_TIMEOUT, "the statement did not end within %g s (command_timeout)",
                  op->engine->command_timeout);
        op->error.outcome = link->m.in_transaction ? OUTCOME_FAILED : OUTCOME_UNKNOWN;
        pg_op_complete_error(op, lua_tostring(L, 2));
        give_back(op);
        return op_raise(L, op);
    }
    if (op->looking_up)
        return looked_up(L, op);
    struct pg_cached *entry = link->m.entry;
    if (link->m.state == PG_COPY_IN || link->m.state == PG_COPY_OUT)
        pg_op_copy_left_open(op);
    else if (error_is_set(&link->m.error))
        error_move(&op->error, &link->m.error);
    if (error_is_set(&op->error)) {
        if (pg_op_may_run_again(op, entry)) {
            error_clear(&op->error);
            op->retried = true;
            op->stage = STAGE_SEND;
            return op_k(L, LUA_OK, (lua_KContext)op);
        }
        pg_op_complete_error(op, lua_tostring(L, 2));
        pg_notices_tell(L, link);
        give_back(op);
        return op_raise(L, op);
    }
    if (op->stream)
        return hand_to_stream(L, op);
    op->result = pg_machine_take(&link->m);
    op->entry = entry;
    if (op->shape != SHAPE_AFFECTED && op->result && has_unknown_types(op))
        return look_up(L, op);
    return deliver(L, op);
}

/* Somebody released the lease while this statement waited: the link is not ours any more. */
static bool is_lost(const struct pg_op *op)
{
    return op->lease && op->lease->link != op->link;
}

static int op_raise_lost(lua_State *L, struct pg_op *op)
{
    struct runtime *rt = op->engine->rt;
    op_clean(op);
    return pg_lease_lost(L, rt);
}

static int drained(lua_State *L, struct pg_op *op)
{
    if (wait_end(task_wait(op->engine->rt->sched)) == WAIT_CANCELLED)
        return op_raise_cancelled(L, op);
    if (is_lost(op))
        return op_raise_lost(L, op);
    return send_statement(L, op);
}

static int op_k(lua_State *L, int status, lua_KContext ctx)
{
    struct pg_op *op = (struct pg_op *)ctx;
    bool parked = status == LUA_YIELD;
    switch (op->stage) {
    case STAGE_SHARED:
        return shared(L, op);
    case STAGE_ACQUIRE:
        return checkout(L, op);
    case STAGE_ACQUIRED:
        return checked_out(L, op, parked);
    case STAGE_CONNECTED:
        return connected(L, op, status);
    case STAGE_DRAINED:
        return drained(L, op);
    case STAGE_SEND:
        return send_statement(L, op);
    case STAGE_REPLY:
        return replied(L, op, parked);
    case STAGE_IDLE:
        break;
    }
    return luaL_error(L, "dbrun: a statement was resumed that is not running");
}

/* ---- entering ---- */

static int enter(lua_State *L, struct pg_op *op, struct pg_engine *e, struct pg_lease *lease)
{
    op->engine = e;
    op->lease = lease;
    pg_engine_ref(e); /* it may be closed while the op waits */
    if (!lease) {
        if (e->mux && !op->stream && !op->acquire_only && !op->simple)
            return share(L, op);
        op->stage = STAGE_ACQUIRE;
        return op_k(L, LUA_OK, (lua_KContext)op);
    }
    op->link = lease->link;
    op->stage = STAGE_SEND;
    if (pg_link_is_draining(op->link)) {
        op->stage = STAGE_DRAINED;
        return pg_link_wait_drained(L, op->link, (lua_KContext)op, op_k);
    }
    return op_k(L, LUA_OK, (lua_KContext)op);
}

static void check_sql(lua_State *L, struct runtime *rt)
{
    size_t len;
    if (lua_type(L, 2) != LUA_TSTRING)
        bind_fail(L, rt, ERROR_USAGE, "expected the SQL as a string, got %s", luaL_typename(L, 2));
    const char *sql = lua_tolstring(L, 2, &len);
    if (memchr(sql, 0, len))
        bind_fail(L, rt, ERROR_USAGE, "the SQL holds a NUL byte");
    if (len > PG_SQL_MAX)
        bind_fail(L, rt, ERROR_USAGE, "the SQL is 1 GiB long, which PostgreSQL does not take");
}

/* May the caller wait, and is the leased connection free? Last of the checks: those of the parameters may
 * run code of the script, which may do anything. */
static void check_turn(lua_State *L, struct pg_engine *e, struct pg_lease *lease)
{
    if (!e->sync)
        task_check_park(L, e->rt->sched);
    if (!lease)
        return;
    pg_lease_check_free(L, lease);
    if (lease->link->m.state == PG_COPY_IN)
        bind_fail(L, e->rt, ERROR_USAGE, "this connection is in the middle of a COPY");
}

/* Checks SQL and parameters; returns the number of parameters, which stand from 3 on. */
static int check_statement(lua_State *L, struct pg_engine *e, struct pg_lease *lease)
{
    struct runtime *rt = e->rt;
    check_sql(L, rt);
    int nparams = lua_gettop(L) - 2;
    if (nparams == 1 && lua_istable(L, 3) && !luaL_getmetafield(L, 3, "__name"))
        nparams = pg_named_expand(L, rt);
    else
        lua_settop(L, 2 + nparams);
    pg_params_check(L, rt, 3, nparams);
    check_turn(L, e, lease);
    return nparams;
}

int pg_statement(lua_State *L, struct pg_engine *e, struct pg_lease *lease, enum pg_shape shape)
{
    int nparams = check_statement(L, e, lease);
    struct pg_op *op = op_take(L, e->rt);
    op->nparams = nparams;
    op->shape = shape;
    return enter(L, op, e, lease);
}

int pg_describe(lua_State *L, struct pg_engine *e, struct pg_lease *lease)
{
    check_sql(L, e->rt);
    lua_settop(L, 2);
    check_turn(L, e, lease);
    struct pg_op *op = op_take(L, e->rt);
    op->describe_only = true;
    op->shape = SHAPE_RESULT;
    return enter(L, op, e, lease);
}

int pg_rows(lua_State *L, struct pg_engine *e, struct pg_lease *lease)
{
    int nparams = check_statement(L, e, lease);
    struct pg_stream *stream = pg_stream_new(L);
    struct pg_op *op = op_take(L, e->rt);
    op->nparams = nparams;
    op->stream = stream;
    return enter(L, op, e, lease);
}

int pg_script(lua_State *L, struct pg_engine *e, struct pg_lease *lease)
{
    struct runtime *rt = e->rt;
    check_sql(L, rt);
    if (lua_gettop(L) > 2)
        return bind_fail(L, rt, ERROR_USAGE, "exec takes no parameters: use query");
    check_turn(L, e, lease);
    struct pg_op *op = op_take(L, rt);
    op->simple = true;
    op->shape = SHAPE_AFFECTED;
    return enter(L, op, e, lease);
}

int pg_acquire(lua_State *L, struct pg_engine *e)
{
    struct runtime *rt = e->rt;
    if (!e->sync)
        task_check_park(L, rt->sched);
    lua_settop(L, 1);
    struct pg_lease *lease = pg_lease_new(L);
    lease->engine = e;
    struct pg_op *op = op_take(L, rt);
    op->acquire_only = true;
    return enter(L, op, e, NULL);
}
