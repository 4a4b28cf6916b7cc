/* Sends several statements in one group, on a connection on which nothing else is in flight. */
#include "pg/machine_impl.h"

#include <stdlib.h>
#include <string.h>

/* ---- names ---- */

/* Closes the names of evicted statements, before the statements of the batch. */
static bool close_names(struct pg_machine *m)
{
    char name[40];
    while (pg_cache_take_deferred(m->cache, m->in_transaction, name))
        if (!pg_machine_close_name(m, name))
            return false;
    return true;
}

/* The entry of a statement that may run by name, or NULL. `effect` gets what the statement does. */
static struct pg_cached *entry_for(struct pg_machine *m, const char *sql, size_t len,
                                   const struct pg_params *p, unsigned *effect)
{
    struct pg_batch_names *names = &m->batch.names;
    unsigned before = m->effect;
    char evicted[40];
    /* A new entry can evict the least recently used one. No entry of this batch is evicted as long as the
     * batch uses fewer entries than the cache keeps. */
    if (names->off || (names->distinct >= pg_cache_limit(m->cache) && !pg_cache_find(m->cache, sql, len))) {
        *effect = pg_machine_effect_of(m, sql, len);
        return NULL;
    }
    struct pg_cached *e = pg_machine_entry_for(m, sql, len, p, evicted);
    *effect = m->effect;
    m->effect = before;
    if (evicted[0])
        pg_cache_defer_close(m->cache, evicted);
    if (e && e->batch != m->batches) {
        e->batch = m->batches;
        e->parse = 0;
        names->distinct++;
    }
    return e;
}

/* Records that the next statement runs by the entry's name; false when out of memory. */
static bool use(struct pg_machine *m, struct pg_cached *e)
{
    struct pg_batch_names *names = &m->batch.names;
    size_t at = pg_machine_head(m)->statements;
    if (names->n == names->cap) {
        size_t cap = names->cap ? names->cap * 2 : 8;
        struct pg_batch_use *list = realloc(names->use, cap * sizeof *list);
        if (!list)
            return false;
        names->use = list;
        names->cap = cap;
    }
    if (!e->prepared)
        e->parse = names->sent + 1;
    names->use[names->n++] = (struct pg_batch_use){e, at, at, e->parse};
    return true;
}

/* Sends a PREPARE, unless the server has the statement. */
static bool parse(struct pg_machine *m, struct pg_cached *e, const char *sql, const struct pg_params *p)
{
    struct pg_batch_names *names = &m->batch.names;
    bool by_name = e && e->seen && use(m, e);
    names->last = by_name ? e : NULL;
    if (by_name && e->prepared)
        return true;
    if (e && !e->prepared) {
        pg_machine_note_parse(m, e, p);
        e->seen = true;
        e->prepared = by_name; /* unless the batch fails before this statement */
    }
    names->sent++;
    return PQsendPrepare(m->conn, by_name ? e->name : "", sql, p->n, p->types);
}

/* After a statement that changes the meaning of names, or undoes such a change, the rest of the batch is
 * parsed anew. And if a name turns out to be out of date, the batch runs again: so no name is used after a
 * statement that cannot be undone, such as BEGIN. */
static void look_ahead(struct pg_batch_names *names, unsigned effect)
{
    enum { CHANGES = PG_CHANGES_SCHEMA | PG_CHANGES_SESSION | PG_ENDS };
    if ((effect & CHANGES) || (effect != PG_HAS_PLAN && !names->inside))
        names->off = true;
}

void pg_machine_batch_settle(struct pg_machine *m)
{
    struct pg_batch *b = &m->batch;
    struct pg_batch_names *names = &b->names;
    for (size_t i = 0; i < names->n; i++) {
        const struct pg_batch_use *u = &names->use[i];
        if (u->parse > names->answered)
            u->e->prepared = false;
        if (error_is_set(&m->failure) && u->from <= b->n && b->n <= u->to && u->parse == 0)
            b->by_name = true;
    }
    free(names->use);
    b->names = (struct pg_batch_names){0};
}

bool pg_machine_batch_is_undone(const struct pg_machine *m)
{
    return m->state == PG_IDLE && !m->in_transaction && !pg_machine_in_transaction(m);
}

/* ---- sending ---- */

bool pg_machine_batch_begin(struct pg_machine *m, bool count_only, bool unnamed)
{
    if (!pg_machine_begin(m))
        return false;
    if (!pg_machine_enter_pipeline(m))
        return pg_machine_not_sent(m, false);
    m->batch.active = true;
    m->batch.count_only = count_only;
    /* In a failed transaction the server refuses PREPARE. */
    m->batch.names.off = unnamed || PQtransactionStatus(m->conn) == PQTRANS_INERROR;
    m->batch.names.inside = m->in_transaction;
    m->batches++;
    pg_machine_set_state(m, PG_PIPE); /* now, so that a batch that is never ended does not count as idle */
    pg_machine_push(m, 0, NULL);
    return m->batch.names.off || close_names(m) || pg_machine_not_sent(m, true);
}

/* The statement; with NULL the previous one again. */
static bool parse_next(struct pg_machine *m, const char *sql, const struct pg_params *p)
{
    struct pg_batch_names *names = &m->batch.names;
    if (!sql) {
        if (names->last)
            names->use[names->n - 1].to++;
        pg_machine_note_format(m, NULL, 0, p);
        return true;
    }
    unsigned effect;
    size_t len = strlen(sql);
    struct pg_cached *e = entry_for(m, sql, len, p, &effect);
    bool known = e && e->prepared && effect == PG_HAS_PLAN;
    m->effect |= effect;
    if (effect & PG_MAY_COMMIT && m->may_commit == 0)
        m->may_commit = pg_machine_head(m)->statements + 1;
    if (!known) {
        pg_machine_note_format(m, sql, len, p);
        pg_machine_guard_read(m, sql);
        pg_machine_guard_commit(m, sql);
    }
    if (!parse(m, e, sql, p))
        return false;
    look_ahead(names, effect);
    return true;
}

bool pg_machine_batch_add(struct pg_machine *m, const char *sql, const struct pg_params *p)
{
    if (!parse_next(m, sql, p))
        return pg_machine_not_sent(m, true);
    const struct pg_cached *e = m->batch.names.last;
    if (!PQsendQueryPrepared(m->conn, e ? e->name : "", p->n, p->values, p->lengths, p->formats, 0))
        return pg_machine_not_sent(m, true);
    pg_machine_head(m)->statements++;
    return true;
}

bool pg_machine_batch_describe(struct pg_machine *m, const char *sql, const struct pg_params *p)
{
    m->batch.describing = true;
    if (!PQsendPrepare(m->conn, "", sql, p->n, p->types) || !PQsendDescribePrepared(m->conn, ""))
        return pg_machine_not_sent(m, true);
    pg_machine_head(m)->statements++;
    return true;
}

bool pg_machine_batch_end(struct pg_machine *m)
{
    if (!PQpipelineSync(m->conn))
        return pg_machine_not_sent(m, true);
    m->flushing = PQflush(m->conn) != 0;
    return true;
}
