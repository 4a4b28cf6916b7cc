/* What a statement's failure means, and what can be done about it without asking the script. */
#include "bind/pg/recovery.h"
#include "base/deadline.h"
#include "pg/scan.h"

#include <string.h>
#include <strings.h>

/* The server does not know a statement that this connection has prepared. */
static bool is_lost_statement(const struct error *e)
{
    const char *state = e->field[ERROR_SQLSTATE];
    return state && (strcmp(state, "26000") == 0 || strcmp(state, "42P05") == 0) &&
           strstr(e->message, "dbrun_"); /* quoted in as many ways as there are languages */
}

/* "cached plan must not change result type" */
static bool is_stale_plan(const struct error *e)
{
    const char *state = e->field[ERROR_SQLSTATE];
    const char *routine = e->field[ERROR_ROUTINE];
    return state && routine && strcmp(state, "0A000") == 0 && strcmp(routine, "RevalidateCachedQuery") == 0;
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
            "for this engine; set DB_STATEMENT_CACHE=0 to begin so",
            e->info->target);
    e->cache_off = true;
    pg_cache_disable(m->cache);
}

/* The server keeps the statement until something else is prepared. */
static void forget_statement(struct pg_cache *cache, struct pg_cached *entry)
{
    char name[sizeof entry->name];
    memcpy(name, entry->name, sizeof name);
    pg_cache_forget(cache, entry);
    pg_cache_defer_close(cache, name);
}

/* The statement may be run once more, by itself: the server had forgotten the prepared one, or its
 * columns have changed; and nothing else hangs on it. */
bool pg_statement_may_run_again(struct pg_statement *st, struct pg_cached *entry)
{
    struct pg_machine *m = &st->link->m;
    const char *state = st->error.field[ERROR_SQLSTATE];
    if (st->retried || !state || !entry || m->state != PG_IDLE)
        return false;
    if (is_lost_statement(&st->error)) {
        switch_cache_off(st->engine, m);
        if (!m->in_transaction)
            return true;
        st->error.retryable = true;
        error_set_field(&st->error, ERROR_HINT,
                        "A pooler between lost a prepared statement. From now on none is prepared: run the "
                        "transaction again, and set DB_STATEMENT_CACHE=0 (or statement_cache=0).");
        return false;
    }
    if (m->in_transaction || !entry->prepared || !is_stale_plan(&st->error))
        return false;
    forget_statement(m->cache, entry);
    return true;
}

/* May it end the transaction? Of several statements any may. */
static bool may_commit(const struct pg_statement *st, const char *sql)
{
    const char *word = sql_first_word(sql);
    return strncasecmp(word, "commit", 6) == 0 || strncasecmp(word, "end", 3) == 0 ||
           strncasecmp(word, "prepare", 7) == 0 || (st->simple && sql_is_several(sql));
}

/* A primary that is none any more, where the address asks for one: the others of its time go too, before each
 * of them costs somebody a write. */
static void leave_demoted(struct pg_statement *st)
{
    const char *state = st->error.field[ERROR_SQLSTATE];
    if (state && strcmp(state, "25006") == 0 && pg_link_is_demoted(st->link))
        pool_invalidate(st->engine->pool, mono_now());
}

/* Fills in what only the caller of the machine knows: the SQL, and whether lost work was lost. */
void pg_statement_complete_error(struct pg_statement *st, const char *sql)
{
    struct error *e = &st->error;
    error_set_field(e, ERROR_STATEMENT, sql);
    leave_demoted(st);
    bool lost = st->link->m.state == PG_BROKEN;
    if (lost && e->outcome == OUTCOME_UNKNOWN && st->link->m.in_transaction && !may_commit(st, sql))
        e->outcome = OUTCOME_FAILED; /* a transaction that was not committed is gone */
    if (lost && e->kind == ERROR_CONNECT && e->outcome != OUTCOME_UNKNOWN)
        e->retryable = true;
    if (e->outcome == OUTCOME_FAILED && !e->field[ERROR_SQLSTATE] && e->kind != ERROR_CONNECT &&
        may_commit(st, sql))
        e->outcome = OUTCOME_UNKNOWN; /* given up while it ran: it may have been faster */
}
