/* A statement on its connection: sent, waited for, and its result made into Lua values. */
#include "base/deadline.h"
#include "bind/pg/lookup.h"
#include "bind/pg/notices.h"
#include "bind/pg/op.h"
#include "bind/pg/params.h"
#include "bind/pg/recovery.h"
#include "bind/pg/stream.h"

#include <string.h>

static int looked_up(lua_State *L, struct pg_op *op);
static bool is_lost(const struct pg_op *op);
static int raise_lost(lua_State *L, struct pg_op *op);

/* ---- sending ---- */

/* The first row is there, or it is known that there is none: from here on the stream holds the connection.
 * Stack: parameters, stream, op. */
static int hand_to_stream(lua_State *L, struct pg_op *op)
{
    struct pg_link *link = op->link;
    int index = 3 + op->nparams;
    if (!op->lease)
        pg_link_note_place(L, link); /* the rows may be read by another task than this */
    link->task = NULL;
    pg_stream_attach_ready(op->stream, link, op->lease == NULL);
    op->link = NULL;
    pg_op_clean(op);
    return pg_stream_push_iterator(L, index);
}

/* Rows that are read one by one leave no moment to ask about their types: known beforehand are those of a
 * statement that this connection has prepared and given the columns of. */
static bool is_to_be_described(struct pg_op *op, const char *sql, size_t len)
{
    if (!op->stream || op->described || op->engine->no_lookups)
        return false;
    const struct pg_cached *e = pg_cache_find(op->link->m.cache, sql, len);
    return !e || !e->described || e->own_types;
}

static bool send_with_params(lua_State *L, struct pg_op *op, const char *sql, size_t len)
{
    struct pg_machine *m = &op->link->m;
    struct pg_encoded enc;
    if (!pg_params_encode(L, 3, op->nparams, &enc)) {
        error_set(&m->error, ERROR_QUERY, "not enough memory for the parameters");
        return false;
    }
    op->describing = is_to_be_described(op, sql, len);
    op->described = op->described || op->describing;
    bool sent = op->describing ? pg_machine_describe(m, sql, &enc.p) : pg_machine_query(m, sql, len, &enc.p);
    pg_params_free(&enc);
    return sent;
}

int pg_op_send(lua_State *L, struct pg_op *op)
{
    static const struct pg_params none = {0};
    struct pg_link *link = op->link;
    size_t len;
    const char *sql = lua_tolstring(L, 2, &len);
    bool sent;
    op->stage = STAGE_REPLY;
    pg_link_note_statement(link, sql, len);
    if (op->engine->cache_off)
        pg_cache_disable(link->m.cache);
    if (op->simple)
        sent = pg_machine_simple(&link->m, sql);
    else if (op->describe_only)
        sent = pg_machine_describe(&link->m, sql, &none);
    else
        sent = send_with_params(L, op, sql, len);
    if (!sent)
        return pg_op_next(L, op);
    if (op->stream && !op->describing)
        pg_machine_stream(&link->m);
    return pg_link_wait(L, link, op->engine->command_timeout, (lua_KContext)op, op->k);
}

/* ---- the reply ---- */

static void give_back(struct pg_op *op)
{
    struct pg_link *link = op->link;
    op->link = NULL;
    if (!op->lease)
        pool_release(op->engine->pool, link->slot, mono_now());
}

/* Stack: 2 = SQL. */
static void warn_large(lua_State *L, const struct pg_engine *e, size_t bytes, int rows)
{
    char where[SCRIPT_WHERE] = "?";
    script_where(L, 1, where, sizeof where);
    log_write(e->rt->log, LOG_LEVEL_WARN,
              "postgres: %s: a result of %d rows and %zu MiB was held in memory (rows() reads row by row): "
              "%.200s",
              where, rows, bytes >> 20, lua_tostring(L, 2));
}

static void warn_when_large(lua_State *L, const struct pg_op *op)
{
    size_t limit = op->engine->large_result;
    size_t bytes = limit && op->result ? PQresultMemorySize(op->result) : 0;
    if (bytes > limit)
        warn_large(L, op->engine, bytes, PQntuples(op->result));
}

/* Pushes the list of columns. A prepared statement has the same ones every time: they are made once and kept
 * with it, if it is still there then. */
static void push_columns(lua_State *L, struct pg_op *op)
{
    const struct pg_cached *entry = op->entry;
    size_t len;
    if (entry && entry->prepared && entry->ref) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, entry->ref);
        return;
    }
    pg_result_columns(L, &op->engine->decoder, op->result);
    if (!entry || is_lost(op))
        return;
    const char *sql = lua_tolstring(L, 2, &len);
    struct pg_cached *kept = pg_cache_find(op->link->m.cache, sql, len);
    if (kept != entry || !kept->prepared || kept->ref)
        return;
    lua_pushvalue(L, -1);
    kept->ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

/* The connection goes back; then the result becomes Lua values. */
static int deliver(lua_State *L, struct pg_op *op)
{
    struct pg_engine *e = op->engine;
    if (op->link->notices.first)
        pg_notices_tell(L, op->link);
    warn_when_large(L, op);
    if (op->shape == SHAPE_RESULT && op->result)
        push_columns(L, op); /* from here on a leased link may be gone */
    give_back(op);
    if (!op->result) { /* an empty statement */
        pg_op_clean(op);
        return 0;
    }
    int n = op->describe_only ? 1 : pg_result_push(L, e->rt, &e->decoder, op->result, op->shape);
    pg_op_clean(op);
    return n;
}

/* Types of the database's own are looked up once, on the same connection, before the result is read. */
static int look_up(lua_State *L, struct pg_op *op)
{
    op->looking_up = true;
    if (!pg_lookup_send(op->link, &op->result, 1))
        return looked_up(L, op);
    return pg_link_wait(L, op->link, op->engine->command_timeout, (lua_KContext)op, op->k);
}

/* The statement itself has succeeded, or (rows) comes now. */
static int looked_up(lua_State *L, struct pg_op *op)
{
    op->looking_up = false;
    bool ok = pg_lookup_done(op->link, &op->error);
    if (op->stream && ok) {
        PQclear(op->result);
        op->result = NULL;
        return pg_op_send(L, op);
    }
    if (ok)
        return deliver(L, op);
    if (!op->stream)
        pg_lookup_tell(op->link, &op->error);
    error_set_field(&op->error, ERROR_STATEMENT, lua_tostring(L, 2));
    give_back(op);
    return pg_op_raise(L, op);
}

/* The columns that rows() will give are known before the first of them comes: then nothing can be asked. */
static int described(lua_State *L, struct pg_op *op)
{
    op->describing = false;
    op->result = pg_machine_take(&op->link->m);
    if (op->result && pg_lookup_needed(op->link, &op->result, 1))
        return look_up(L, op);
    PQclear(op->result);
    op->result = NULL;
    return pg_op_send(L, op);
}

int pg_op_replied(lua_State *L, struct pg_op *op, bool parked)
{
    struct pg_link *link = op->link;
    struct sched *s = op->engine->rt->sched;
    enum wait_status how = parked ? wait_end(task_wait(s)) : WAIT_DONE;
    if (!is_lost(op))
        link->answered = false;
    if (how == WAIT_CANCELLED) {
        give_back(op);
        return pg_op_raise_cancelled(L, op);
    }
    if (is_lost(op))
        return raise_lost(L, op);
    if (how == WAIT_TIMEOUT) {
        error_set(&op->error, ERROR_TIMEOUT, "the statement did not end within %g s (command_timeout)",
                  op->engine->command_timeout);
        op->error.outcome = link->m.in_transaction ? OUTCOME_FAILED : OUTCOME_UNKNOWN;
        pg_op_complete_error(op, lua_tostring(L, 2));
        give_back(op);
        return pg_op_raise(L, op);
    }
    if (op->looking_up)
        return looked_up(L, op);
    struct pg_cached *entry = link->m.entry;
    if (error_is_set(&link->m.error))
        error_move(&op->error, &link->m.error);
    if (error_is_set(&op->error)) {
        if (pg_op_may_run_again(op, entry)) {
            error_clear(&op->error);
            op->retried = true;
            op->stage = STAGE_SEND;
            return pg_op_next(L, op);
        }
        pg_op_complete_error(op, lua_tostring(L, 2));
        pg_notices_tell(L, link);
        give_back(op);
        return pg_op_raise(L, op);
    }
    if (op->describing)
        return described(L, op);
    if (op->stream)
        return hand_to_stream(L, op);
    op->result = pg_machine_take(&link->m);
    op->entry = entry;
    if (op->shape != SHAPE_AFFECTED && op->result && pg_lookup_needed(link, &op->result, 1))
        return look_up(L, op);
    return deliver(L, op);
}

/* Somebody released the lease while this statement waited: the link is not ours any more. */
static bool is_lost(const struct pg_op *op)
{
    return op->lease && op->lease->link != op->link;
}

static int raise_lost(lua_State *L, struct pg_op *op)
{
    struct runtime *rt = op->engine->rt;
    pg_op_clean(op);
    return pg_lease_lost(L, rt);
}

int pg_op_drained(lua_State *L, struct pg_op *op)
{
    enum wait_status how = wait_end(task_wait(op->engine->rt->sched));
    if (!is_lost(op))
        op->link->answered = false;
    if (how == WAIT_CANCELLED)
        return pg_op_raise_cancelled(L, op);
    if (is_lost(op))
        return raise_lost(L, op);
    return pg_op_send(L, op);
}
