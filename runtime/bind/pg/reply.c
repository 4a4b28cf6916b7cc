/* A statement on its connection: sent, waited for, and its result made into Lua values. */
#include "base/deadline.h"
#include "base/number.h"
#include "bind/base/collector.h"
#include "bind/pg/growing.h"
#include "bind/pg/lookup.h"
#include "bind/pg/notices.h"
#include "bind/pg/params.h"
#include "bind/pg/recovery.h"
#include "bind/pg/stale.h"
#include "bind/pg/statement_log.h"
#include "bind/pg/stream.h"
#include "bind/pg/traced.h"
#include "pg/errors.h"

static int looked_up(lua_State *L, struct pg_statement *st);
static int ask_whether_stale(lua_State *L, struct pg_statement *st);
static int raise_lost(lua_State *L, struct pg_statement *st);

/* ---- sending ---- */

/* Called when the first row has arrived, or the statement has ended without one: the stream takes the
 * connection over. Stack: parameters, stream, statement. */
static int hand_to_stream(lua_State *L, struct pg_statement *st)
{
    struct pg_link *link = st->link;
    int index = 3 + st->nparams;
    if (!st->lease)
        pg_link_note_place(L, link); /* another task than this one may read the rows */
    if (st->began)
        pg_log_statement(L, st);
    if (link->traced) {
        size_t len;
        const char *sql = lua_tolstring(L, 2, &len);
        pg_traced_work(L, link, TRACE_ROWS, NULL, sql, len);
    }
    link->task = NULL;
    st->stream->form = st->form;
    pg_stream_attach_ready(st->stream, link, st->lease == NULL);
    st->link = NULL;
    pg_statement_clean(st);
    return pg_stream_push_iterator(L, index);
}

/* While rows are read one by one the catalog cannot be asked about their types, so rows() asks for the
 * columns first, unless this connection has prepared the statement and knows its columns. */
static bool is_to_be_described(struct pg_statement *st, const char *sql, size_t len)
{
    if (!st->stream || st->described || st->engine->no_lookups)
        return false;
    const struct pg_cached *e = pg_cache_find(st->link->m.cache, sql, len);
    return !e || !pg_machine_knows_columns(&st->link->m, e);
}

static bool send_with_params(lua_State *L, struct pg_statement *st, const char *sql, size_t len)
{
    struct pg_machine *m = &st->link->m;
    struct pg_encoded enc;
    st->describing = is_to_be_described(st, sql, len);
    st->described = st->described || st->describing;
    if (!pg_params_encode(L, 3, st->nparams, &enc)) {
        error_set(&m->error, ERROR_QUERY, "not enough memory for the parameters");
        return false;
    }
    enc.p.as_text = st->form & FORM_TEXT;
    enc.p.text = st->stream != NULL; /* its rows cannot be read again in text */
    bool sent = st->describing ? pg_machine_describe(m, sql, &enc.p) : pg_machine_query(m, sql, len, &enc.p);
    pg_params_free(&enc);
    return sent;
}

int pg_statement_send(lua_State *L, struct pg_statement *st)
{
    static const struct pg_params none = {0};
    struct pg_link *link = st->link;
    size_t len;
    const char *sql = lua_tolstring(L, 2, &len);
    bool sent;
    st->stage = STAGE_REPLY;
    if (st->engine->cache_off)
        pg_cache_disable(link->m.cache);
    if (st->stale_only)
        return ask_whether_stale(L, st);
    if (st->simple)
        sent = pg_machine_simple(&link->m, sql);
    else if (st->describe_only)
        sent = pg_machine_describe(&link->m, sql, &none);
    else
        sent = send_with_params(L, st, sql, len);
    pg_link_note_statement(link, sql, len);
    if (!sent)
        return pg_statement_replied(L, st, false);
    if (st->stream && !st->describing)
        pg_machine_stream(&link->m);
    else if (pg_growing_may(L, st))
        pg_machine_stream_large(&link->m);
    return pg_link_wait(L, link, st->engine->command_timeout, (lua_KContext)st, st->k);
}

/* ---- the reply ---- */

static void give_back(struct pg_statement *st)
{
    struct pg_link *link = st->link;
    st->link = NULL;
    if (!st->lease)
        pg_link_release(link);
}

/* Stack: 2 = SQL. */
static void warn_large(lua_State *L, const struct pg_engine *e, size_t bytes, lua_Integer rows)
{
    char where[SCRIPT_WHERE] = "?";
    script_where(L, 1, where, sizeof where);
    log_write(e->rt->log, LOG_LEVEL_WARN,
              "postgres: %s: a result of %lld rows and %zu MiB was held in memory (rows() reads row by row): "
              "%.200s",
              where, (long long)rows, bytes >> 20, lua_tostring(L, 2));
}

static void warn_when_large(lua_State *L, const struct pg_statement *st)
{
    size_t limit = st->engine->large_result;
    bool grown = pg_statement_is_grown(st);
    size_t bytes = 0;
    if (limit && st->result)
        bytes = grown ? pg_growing_bytes(st) : PQresultMemorySize(st->result);
    if (bytes > limit)
        warn_large(L, st->engine, bytes, grown ? st->growing.rows : PQntuples(st->result));
}

static int send_again(lua_State *L, struct pg_statement *st)
{
    error_clear(&st->error);
    pg_growing_forget(L, st);
    st->retried = true;
    return pg_statement_send(L, st);
}

/* True when columns came in a binary form without a decoder: their types have changed since the last
 * description. */
static bool is_unreadable(const struct pg_statement *st)
{
    return st->guessed && st->result && PQbinaryTuples(st->result) &&
           !pg_types_all_binary(st->engine->catalog, st->result);
}

/* Safe, because only statements that may run again guess the form of their columns. */
static int read_again(lua_State *L, struct pg_statement *st)
{
    pg_cache_renew(st->link->m.cache, st->entry);
    st->entry->binary = false;
    PQclear(st->result);
    st->result = NULL;
    return send_again(L, st);
}

/* Returns the connection to the pool, then makes Lua values of the result. */
static int deliver(lua_State *L, struct pg_statement *st)
{
    struct pg_engine *e = st->engine;
    if (is_unreadable(st))
        return read_again(L, st);
    bool in_transaction = st->shape == RESULT_ONE && pg_machine_in_transaction(&st->link->m);
    if (st->link->notices.first)
        pg_notices_tell(L, st->link);
    if (st->began)
        pg_log_statement(L, st);
    warn_when_large(L, st);
    if (st->result && !st->describe_only && pg_result_has_meta(st->shape) && !pg_statement_is_grown(st))
        pg_statement_push_meta(L, st); /* from here on a leased link may be gone */
    give_back(st);
    if (!st->result) { /* an empty statement */
        pg_statement_clean(st);
        return 0;
    }
    if (st->shape == RESULT_ONE)
        pg_result_check_one(L, e->rt, st->result, in_transaction);
    int n = 1;
    if (st->describe_only)
        pg_result_columns(L, &e->decoder, st->result);
    else if (pg_statement_is_grown(st))
        n = pg_growing_push(L, st);
    else
        n = pg_result_push(L, &e->decoder, st->result, st->shape, st->form);
    pg_statement_clean(st);
    return n;
}

/* Asks the catalog about types that the engine does not know yet, on the same connection, before the result
 * is read. */
static int look_up(lua_State *L, struct pg_statement *st)
{
    st->looking_up = true;
    if (!pg_lookup_send(st->link, &st->result, 1))
        return looked_up(L, st);
    return pg_link_wait(L, st->link, st->engine->command_timeout, (lua_KContext)st, st->k);
}

/* Called when the catalog has answered. The statement has already succeeded; that of rows() is sent now. */
static int looked_up(lua_State *L, struct pg_statement *st)
{
    st->looking_up = false;
    bool ok = pg_lookup_done(st->link, &st->error);
    if (st->stream && ok) {
        PQclear(st->result);
        st->result = NULL;
        return pg_statement_send(L, st);
    }
    if (ok)
        return deliver(L, st);
    if (!st->stream)
        pg_lookup_tell(st->link, &st->error);
    else if (st->error.outcome == OUTCOME_NONE)
        st->error.outcome = OUTCOME_NOT_SENT;
    error_set_field(&st->error, ERROR_STATEMENT, lua_tostring(L, 2));
    give_back(st);
    return pg_statement_raise(L, st);
}

/* Called when the columns of rows() are known: looks their types up if needed, then sends the statement. */
static int described(lua_State *L, struct pg_statement *st)
{
    st->describing = false;
    st->result = pg_machine_take(&st->link->m);
    if (st->result && pg_lookup_needed_for_rows(st->link, st->result))
        return look_up(L, st);
    PQclear(st->result);
    st->result = NULL;
    return pg_statement_send(L, st);
}

/* ---- failure ---- */

static int fail(lua_State *L, struct pg_statement *st)
{
    pg_statement_complete_error(st, lua_tostring(L, 2));
    pg_notices_tell(L, st->link);
    give_back(st);
    return pg_statement_raise(L, st);
}

/* The answer of ask_whether_stale. */
static int judge(lua_State *L, struct pg_statement *st, bool stale)
{
    if (!st->stale_only)
        return stale ? send_again(L, st) : fail(L, st);
    pg_statement_clean(st);
    lua_pushboolean(L, stale);
    return 1;
}

/* The failed statement was prepared, and its error may come from types that have changed since. */
static int ask_whether_stale(lua_State *L, struct pg_statement *st)
{
    struct pg_link *link = st->link;
    size_t len;
    const char *sql = lua_tolstring(L, 2, &len);
    if (st->stale_only)
        st->entry = pg_cache_find(link->m.cache, sql, len);
    if (!st->entry || !st->entry->prepared || !pg_stale_ask(L, st))
        return judge(L, st, false);
    return pg_link_wait(L, link, st->engine->command_timeout, (lua_KContext)st, st->k);
}

/* A description has come. */
static int compared(lua_State *L, struct pg_statement *st)
{
    switch (pg_stale_take(st)) {
    case PG_STALE_ASK:
        if (!pg_stale_ask(L, st))
            return judge(L, st, false);
        return pg_link_wait(L, st->link, st->engine->command_timeout, (lua_KContext)st, st->k);
    case PG_STALE_YES:
        return judge(L, st, true);
    case PG_STALE_CANCELLED:
        st->error.outcome = OUTCOME_FAILED; /* as before the comparison */
        return fail(L, st);
    case PG_STALE_NO:
        break;
    }
    return judge(L, st, false);
}

/* The server has refused the statement. */
static int failed(lua_State *L, struct pg_statement *st, struct pg_cached *entry)
{
    const struct pg_machine *m = &st->link->m;
    if (pg_statement_may_run_again(st, entry))
        return send_again(L, st);
    char **field = st->error.field;
    /* In a transaction the whole cache, with this entry, may have been cleared. */
    if (m->in_transaction || st->retried || !entry || !entry->prepared || m->preparing ||
        m->state != PG_IDLE || !pg_stale_is_suspect(field[ERROR_SQLSTATE], field[ERROR_DATATYPE] != NULL))
        return fail(L, st);
    st->entry = entry;
    return ask_whether_stale(L, st);
}

/* Called when command_timeout has passed. During a type comparison the statement's error is already known. */
static int timed_out(lua_State *L, struct pg_statement *st)
{
    if (st->stale_only)
        return judge(L, st, false);
    if (!error_is_set(&st->error)) {
        pg_error_late(&st->error, "the statement did not end", st->engine->command_timeout);
        st->error.outcome = st->link->m.in_transaction ? OUTCOME_FAILED : OUTCOME_UNKNOWN;
    }
    pg_statement_complete_error(st, lua_tostring(L, 2));
    give_back(st);
    return pg_statement_raise(L, st);
}

/* The task was cancelled while the statement ran. */
static int cancelled(lua_State *L, struct pg_statement *st, bool lost)
{
    enum error_outcome outcome = lost ? OUTCOME_UNKNOWN : pg_statement_unfinished(st, lua_tostring(L, 2));
    give_back(st);
    return pg_statement_raise_cancelled(L, st, outcome);
}

/* ---- the statement has ended ---- */

/* Returns the connection to the pool, which rolls the transaction back. */
static int raise_left_open(lua_State *L, struct pg_statement *st)
{
    error_set(&st->error, ERROR_USAGE,
              "the statement left a transaction open, and it was rolled back: an engine gives the connection "
              "back to its pool after each statement");
    error_set_field(&st->error, ERROR_HINT,
                    "Use transaction, or take a connection for several statements (acquire, session).");
    error_set_field(&st->error, ERROR_STATEMENT, lua_tostring(L, 2));
    st->error.outcome = st->link->m.committed ? OUTCOME_UNKNOWN : OUTCOME_FAILED;
    give_back(st);
    return pg_statement_raise(L, st);
}

/* True when the catalog must be asked before the result is read. Not when all column types are known to be
 * built in. */
static bool has_unknown_types(const struct pg_statement *st)
{
    const struct pg_cached *e = st->entry;
    if (st->shape == RESULT_AFFECTED || !st->result || (e && e->described && !e->own_types))
        return false;
    return st->describe_only ? pg_lookup_needed_for_rows(st->link, st->result)
                             : pg_lookup_needed(st->link, &st->result, 1);
}

/* The server has answered. */
static int ended(lua_State *L, struct pg_statement *st)
{
    struct pg_link *link = st->link;
    struct pg_cached *entry = link->m.entry;
    if (error_is_set(&link->m.error)) {
        error_move(&st->error, &link->m.error);
        return failed(L, st, entry);
    }
    if (st->describing)
        return described(L, st);
    if (!st->lease && !(entry && entry->prepared) && pg_machine_in_transaction(&link->m))
        return raise_left_open(L, st);
    if (st->stream)
        return hand_to_stream(L, st);
    st->result = pg_machine_take(&link->m);
    st->entry = entry;
    st->guessed = link->m.guessed;
    if (!pg_growing_over(st)) {
        error_set(&st->error, ERROR_QUERY, "not enough memory for the result");
        st->error.outcome = OUTCOME_UNKNOWN;
        return fail(L, st);
    }
    if (has_unknown_types(st))
        return look_up(L, st);
    return deliver(L, st);
}

/* Takes the part of a large result that has arrived. Meanwhile the connection counts as busy, because
 * finalisers may run at the end of each part. */
static int grow(lua_State *L, struct pg_statement *st)
{
    struct pg_link *link = st->link;
    do {
        link->answered = true;
        if (st->growing.how == GROW_NOT)
            collector_settle(L, st->engine->rt);
        unsigned step = pg_statement_is_lost(st) ? PG_DONE : pg_growing_take(L, st);
        if (pg_statement_is_lost(st))
            return raise_lost(L, st);
        link->answered = false;
        if (step == PG_DONE) {
            if (link->io)
                pg_link_rest(link);
            return ended(L, st);
        }
        if (!st->engine->sync)
            return pg_link_wait_more(L, link, st->engine->command_timeout, (lua_KContext)st, st->k);
        pg_link_wait_more(L, link, st->engine->command_timeout, (lua_KContext)st, st->k);
    } while (pg_machine_is_busy(&link->m));
    return ended(L, st);
}

int pg_statement_replied(lua_State *L, struct pg_statement *st, bool parked)
{
    struct pg_link *link = st->link;
    struct sched *s = st->engine->rt->sched;
    enum wait_status how = parked ? wait_end(s) : WAIT_DONE;
    bool lost = pg_statement_is_lost(st);
    if (!lost)
        link->answered = false;
    if (how == WAIT_CANCELLED)
        return cancelled(L, st, lost);
    if (lost)
        return raise_lost(L, st);
    if (how == WAIT_TIMEOUT)
        return timed_out(L, st);
    if (st->looking_up)
        return looked_up(L, st);
    if (st->comparing)
        return compared(L, st);
    if (!st->stream && pg_machine_is_busy(&link->m))
        return grow(L, st);
    return ended(L, st);
}

static int raise_lost(lua_State *L, struct pg_statement *st)
{
    struct runtime *rt = st->engine->rt;
    pg_statement_clean(st);
    return pg_lease_lost(L, rt);
}

int pg_statement_drained(lua_State *L, struct pg_statement *st)
{
    enum wait_status how = wait_end(st->engine->rt->sched);
    bool lost = pg_statement_is_lost(st);
    if (!lost)
        st->link->answered = false;
    if (how == WAIT_CANCELLED)
        return pg_statement_raise_cancelled(L, st, OUTCOME_NOT_SENT);
    if (lost)
        return raise_lost(L, st);
    return pg_statement_send(L, st);
}
