/* Decides when the prepared statements of a connection are out of date. */
#include "base/deadline.h"
#include "pg/effect.h"
#include "pg/machine_impl.h"

/* ---- asking ---- */

bool pg_machine_is_current(const struct pg_machine *m, const struct pg_cached *e)
{
    return e->schema == *m->schema_epoch && e->session == m->session_epoch &&
           (m->cache_age == 0 || mono_now() - e->parsed < m->cache_age);
}

bool pg_machine_knows_columns(const struct pg_machine *m, const struct pg_cached *e)
{
    return e->prepared && e->described && !e->own_types && pg_machine_is_current(m, e);
}

/* ---- what a group has changed ---- */

/* True when the server has reported another value of a setting that changes the meaning of statements. libpq
 * stores the values but reports no change. */
static bool has_reported(struct pg_machine *m)
{
    static const char *const names[] = {"TimeZone",
                                        "DateStyle",
                                        "IntervalStyle",
                                        "search_path",
                                        "standard_conforming_strings",
                                        "session_authorization"};
    uint64_t h = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = PQparameterStatus(m->conn, names[i]);
        for (; value && *value; value++)
            h = (h ^ (unsigned char)*value) * UINT64_C(1099511628211);
        h = (h ^ i) * UINT64_C(1099511628211);
    }
    bool changed = h != m->reported;
    m->reported = h;
    return changed;
}

static void raise_schema(struct pg_machine *m)
{
    ++*m->schema_epoch;
    if (m->catalog)
        pg_catalog_expire(m->catalog);
}

/* Called when the transaction has ended or was partly undone: its changes are now visible to others, or
 * gone. */
static void end_pending(struct pg_machine *m)
{
    m->session_epoch++;
    if (m->pending & PG_CHANGES_SCHEMA)
        raise_schema(m);
    if (!pg_machine_in_transaction(m))
        m->pending = 0;
}

void pg_machine_raise_epochs(struct pg_machine *m)
{
    enum { CHANGES = PG_CHANGES_SCHEMA | PG_CHANGES_SESSION };
    bool by_name = m->entry && m->entry->prepared && !m->preparing;
    if (m->effect == PG_HAS_PLAN && by_name)
        return; /* the usual case */
    unsigned changes = m->effect & CHANGES;
    if ((m->effect & (CHANGES | PG_HAS_PLAN | PG_RUNS)) && has_reported(m))
        changes |= PG_CHANGES_SESSION;
    if (changes)
        m->session_epoch++;
    m->pending |= changes;
    if ((m->effect & PG_CHANGES_SCHEMA) && m->catalog)
        pg_catalog_expire(m->catalog);
    if (m->pending && (!pg_machine_in_transaction(m) || (m->effect & PG_ENDS)))
        end_pending(m);
}

void pg_machine_begin_epochs(struct pg_machine *m)
{
    m->schema_epoch = &m->no_epoch;
    has_reported(m);
}
