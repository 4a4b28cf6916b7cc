/* Completes the error of a failed statement, and decides whether the statement may run again. */
#include "bind/pg/recovery.h"
#include "base/number.h"
#include "bind/pg/stale.h"
#include "pg/concurrent.h"
#include "pg/placeholder.h"
#include "pg/scan.h"

#include <string.h>

/* True when the server does not know a statement that this connection prepared (26000), or already has its
 * name (42P05). */
static bool is_lost_statement(const struct error *e)
{
    const char *state = e->field[ERROR_SQLSTATE];
    return state && (strcmp(state, "26000") == 0 || strcmp(state, "42P05") == 0) &&
           strstr(e->message, "dbrun_"); /* the rest of the message depends on the language */
}

/* "cached plan must not change result type" */
static bool is_stale_plan(const struct error *e)
{
    const char *state = e->field[ERROR_SQLSTATE];
    const char *routine = e->field[ERROR_ROUTINE];
    return state && routine && strcmp(state, "0A000") == 0 && strcmp(routine, "RevalidateCachedQuery") == 0;
}

/* "no binary output function available for type aclitem", or one that does nothing but raise */
static bool is_without_binary(const char *state)
{
    return strcmp(state, "42883") == 0 || strcmp(state, "0A000") == 0;
}

bool pg_statement_is_of_cache(const struct error *e)
{
    return is_lost_statement(e) || is_stale_plan(e);
}

static void switch_cache_off(struct pg_engine *e, struct pg_machine *m)
{
    if (!e->cache_off)
        log_write(
            e->rt->log, LOG_LEVEL_WARN,
            "postgres: %s loses prepared statements (a transaction pooler?): the statement cache is off "
            "for this engine; set DB_STATEMENT_CACHE=0 to switch it off from the start",
            e->info->target);
    e->cache_off = true;
    m->entry = NULL;
    pg_cache_disable(m->cache);
}

/* For a statement in a transaction, which failed with all that was done before it. */
static void tell_retryable(struct error *e, const char *hint)
{
    e->retryable = true;
    error_set_field(e, ERROR_HINT, hint);
}

/* For a prepared statement that the server has lost. `undone`: everything that failed is undone. Returns
 * whether it may run again. */
static bool again_without_cache(struct pg_engine *engine, struct pg_machine *m, struct error *e, bool undone)
{
    switch_cache_off(engine, m);
    if (!undone)
        tell_retryable(e,
                       "A pooler in front of the server lost a prepared statement. From now on no statement "
                       "is prepared: run the transaction again, and set DB_STATEMENT_CACHE=0 (or "
                       "statement_cache=0).");
    return undone;
}

/* The same for a prepared statement that is out of date; `entry` is its cache entry or NULL. */
static bool again_parsed_anew(struct pg_machine *m, struct pg_cached *entry, struct error *e, bool undone)
{
    if (entry) {
        pg_cache_renew(m->cache, entry);
        entry->binary = false;
    }
    if (!undone)
        tell_retryable(e,
                       "The columns of the statement have changed since it was prepared, and it is prepared "
                       "anew now. Run the transaction again, or give it retry=1.");
    return undone;
}

bool pg_statement_may_run_again(struct pg_statement *st, struct pg_cached *entry)
{
    struct pg_machine *m = &st->link->m;
    const char *state = st->error.field[ERROR_SQLSTATE];
    if (st->retried || !state || !entry || m->state != PG_IDLE)
        return false;
    if (is_lost_statement(&st->error))
        return again_without_cache(st->engine, m, &st->error, !m->in_transaction);
    if (m->guessed && is_without_binary(state)) {
        entry->binary = false;
        return true;
    }
    if (!entry->prepared || !is_stale_plan(&st->error))
        return false;
    return again_parsed_anew(m, entry, &st->error, !m->in_transaction);
}

bool pg_batch_may_run_again(struct pg_engine *engine, struct pg_machine *m, const char *sql)
{
    struct error *e = &m->error;
    const char *state = e->field[ERROR_SQLSTATE];
    bool by_name = m->batch.by_name, undone = pg_machine_batch_is_undone(m);
    if (!state || m->state != PG_IDLE)
        return false;
    if (is_lost_statement(e))
        return again_without_cache(engine, m, e, undone);
    bool stale = by_name && is_stale_plan(e);
    bool suspect = by_name && undone && pg_stale_is_suspect(state, e->field[ERROR_DATATYPE] != NULL);
    if (!stale && !suspect)
        return false;
    struct pg_cached *entry = sql ? pg_cache_find(m->cache, sql, strlen(sql)) : NULL;
    return again_parsed_anew(m, entry && entry->prepared ? entry : NULL, e, undone);
}

/* True when this SQL can end a transaction. One of several statements can be a COMMIT. */
static bool may_commit(const struct pg_statement *st, const char *sql)
{
    const char *word = sql_first_word(sql);
    return ascii_begins(word, "commit", 6) || ascii_begins(word, "end", 3) ||
           ascii_begins(word, "prepare", 7) ||
           (st->simple &&
            (sql_is_several(sql) || !pg_machine_is_scanned_right(&st->link->m, sql, strlen(sql))));
}

/* True when this SQL only begins a transaction, so that nothing is lost with it. */
static bool only_begins(const struct pg_statement *st, const char *sql)
{
    const char *word = sql_first_word(sql);
    return (ascii_begins(word, "begin", 5) || ascii_begins(word, "start", 5)) && !may_commit(st, sql);
}

enum error_outcome pg_statement_unfinished(const struct pg_statement *st, const char *sql)
{
    bool rolled_back = st->link->m.in_transaction && !may_commit(st, sql);
    return rolled_back || only_begins(st, sql) ? OUTCOME_FAILED : OUTCOME_UNKNOWN;
}

void pg_statement_complete_error(struct pg_statement *st, const char *sql)
{
    struct error *e = &st->error;
    pg_error_of_statement(e, sql);
    pg_link_note_read_only(st->link, e);
    bool lost = st->link->m.state == PG_BROKEN;
    if (lost && e->outcome == OUTCOME_UNKNOWN && st->link->m.in_transaction && !may_commit(st, sql))
        e->outcome = OUTCOME_FAILED; /* a lost connection rolls its transaction back */
    if (e->outcome == OUTCOME_UNKNOWN && only_begins(st, sql))
        e->outcome = OUTCOME_FAILED;
    if (lost && e->kind == ERROR_CONNECT && e->outcome != OUTCOME_UNKNOWN)
        e->retryable = true;
    if (e->outcome == OUTCOME_FAILED && !e->field[ERROR_SQLSTATE] && e->kind != ERROR_CONNECT &&
        may_commit(st, sql))
        e->outcome = OUTCOME_UNKNOWN; /* abandoned while it ran: the COMMIT may have come first */
    pg_error_of_concurrent(e, sql);
}
