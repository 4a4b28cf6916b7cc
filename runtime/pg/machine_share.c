/* Sends groups of many callers on one connection. */
#include "pg/effect.h"
#include "pg/machine_impl.h"

struct pg_cached *pg_machine_shareable(struct pg_machine *m, const char *sql, size_t len,
                                       const struct pg_params *p)
{
    struct pg_cached *e = pg_cache_find(m->cache, sql, len);
    bool can = e && pg_machine_knows_columns(m, e) && e->effect == PG_HAS_PLAN &&
               e->types == pg_params_fingerprint(p);
    return can ? e : NULL;
}

/* Begins a pipeline for the first group. */
static bool begin_sharing(struct pg_machine *m)
{
    pg_machine_renew(m);
    if (!pg_machine_enter_pipeline(m))
        return false;
    m->shared = true;
    pg_machine_set_state(m, PG_PIPE);
    return true;
}

bool pg_machine_share(struct pg_machine *m, const struct pg_cached *e, const struct pg_params *p, void *owner)
{
    if (m->state == PG_IDLE && !begin_sharing(m)) {
        pg_machine_set_state(m, PG_BROKEN);
        return false;
    }
    if (!PQsendQueryPrepared(m->conn, e->name, p->n, p->values, p->lengths, p->formats,
                             e->binary && !m->text_only && !p->as_text) ||
        !PQpipelineSync(m->conn)) {
        m->doomed = true;
        return false;
    }
    pg_machine_push(m, 1, owner);
    m->flushing = true; /* the next step sends it */
    return true;
}

void pg_machine_abandon(struct pg_machine *m, const void *owner)
{
    for (uint32_t i = 0; i < m->owed; i++) {
        struct pg_group *g = &m->group[(m->head + i) % PG_MOST_GROUPS];
        if (g->owner == owner)
            g->owner = NULL;
    }
}
