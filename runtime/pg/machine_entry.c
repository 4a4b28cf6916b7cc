/* The cache entry of a statement, and what the entry says about it. */
#include "base/deadline.h"
#include "base/number.h"
#include "pg/machine_impl.h"
#include "pg/scan.h"

#include <string.h>

unsigned pg_machine_effect_of(const struct pg_machine *m, const char *sql, size_t len)
{
    return pg_effect_of(sql, len, pg_machine_is_scanned_right(m, sql, len));
}

uint64_t pg_params_fingerprint(const struct pg_params *p)
{
    uint64_t h = (uint64_t)p->n;
    for (int i = 0; i < p->n; i++)
        h = (h ^ (p->types ? p->types[i] : 0)) * UINT64_C(1099511628211);
    return h;
}

static bool has_declared_type(const struct pg_params *p)
{
    for (int i = 0; i < p->n; i++)
        if (p->types && p->types[i])
            return true;
    return false;
}

/* A WITH may hide an INSERT. */
static bool only_reads(const char *sql)
{
    const char *word = sql_first_word(sql);
    return ascii_begins(word, "select", 6) || ascii_begins(word, "values", 6) ||
           ascii_begins(word, "table", 5);
}

/* Utility statements have no entry: they gain nothing from PREPARE, some cannot run in a group with it
 * (VACUUM), and the columns of others (FETCH, SHOW, EXECUTE) may change their types unnoticed. */
static struct pg_cached *new_entry(struct pg_machine *m, const char *sql, size_t len, char evicted[40])
{
    m->effect = pg_machine_effect_of(m, sql, len);
    struct pg_cached *e = m->effect & PG_HAS_PLAN ? pg_cache_add(m->cache, sql, len, evicted) : NULL;
    if (e) {
        e->effect = m->effect;
        e->repeatable = only_reads(sql);
    }
    return e;
}

struct pg_cached *pg_machine_entry_for(struct pg_machine *m, const char *sql, size_t len,
                                       const struct pg_params *p, char evicted[40])
{
    evicted[0] = '\0';
    if (p->once)
        return NULL;
    struct pg_cached *e = pg_cache_find(m->cache, sql, len);
    if (!e)
        e = new_entry(m, sql, len, evicted);
    if (!e)
        return NULL;
    m->effect = e->effect;
    if (e->seen && !pg_machine_is_current(m, e))
        pg_cache_renew(m->cache, e);
    if (e->seen && !e->prepared)
        pg_cache_take_deferred(m->cache, m->in_transaction, evicted);
    uint64_t types = pg_params_fingerprint(p);
    if (e->prepared && e->types != types)
        return NULL; /* it was prepared for other parameter types */
    if (e->types != types)
        e->seen = false;
    e->types = types;
    return e;
}

void pg_machine_note_parse(const struct pg_machine *m, struct pg_cached *e, const struct pg_params *p)
{
    e->parsed = mono_now();
    e->schema = *m->schema_epoch;
    e->session = m->session_epoch;
    e->typed = has_declared_type(p);
}
