#include "bind/pg/lookup.h"
#include "pg/shape.h"

#include <string.h>

bool pg_lookup_is_unknown(const struct pg_engine *e, const PGresult *r)
{
    for (int c = 0; c < PQnfields(r); c++)
        if (!pg_type_is_known(e->catalog, PQftype(r, c)))
            return true;
    return false;
}

bool pg_lookup_needed(const struct pg_link *link, PGresult *const *list, size_t n)
{
    const struct pg_engine *e = link->engine;
    if (e->no_lookups || link->m.state != PG_IDLE)
        return false;
    for (size_t i = 0; i < n; i++)
        if (pg_lookup_is_unknown(e, list[i]))
            return true;
    bool altered = false;
    for (size_t i = 0; i < n && !altered; i++)
        altered = pg_shape_is_wrong(e->catalog, list[i]);
    if (altered)
        pg_catalog_expire(e->catalog);
    return altered;
}

bool pg_lookup_needed_for_rows(const struct pg_link *link, PGresult *description)
{
    if (pg_shape_has_fields(link->engine->catalog, description))
        pg_catalog_expire(link->engine->catalog);
    return pg_lookup_needed(link, &description, 1);
}

bool pg_lookup_send_list(struct pg_link *link, const char *oids)
{
    static const Oid types[] = {0};
    static const int zeros[] = {0};
    const char *values[] = {oids};
    struct pg_params p = {
        .n = 1, .types = types, .values = values, .lengths = zeros, .formats = zeros, .once = true};
    return pg_machine_query(&link->m, pg_catalog_sql, strlen(pg_catalog_sql), &p);
}

bool pg_lookup_send(struct pg_link *link, PGresult *const *results, size_t n)
{
    struct buf list = {0};
    for (size_t i = 0; i < n; i++)
        for (int c = 0; c < PQnfields(results[i]); c++)
            if (!pg_type_is_known(link->engine->catalog, PQftype(results[i], c)))
                buf_addf(&list, "%s%u", list.len ? "," : "{", PQftype(results[i], c));
    buf_adds(&list, "}");
    bool sent = !list.oom && pg_lookup_send_list(link, list.data);
    buf_free(&list);
    return sent;
}

/* True when the role is not allowed to read the catalog. */
static bool is_barred(const struct error *e)
{
    const char *state = e->field ? e->field[ERROR_SQLSTATE] : NULL;
    return state && strncmp(state, "42", 2) == 0;
}

bool pg_lookup_done(struct pg_link *link, struct error *err)
{
    struct pg_engine *e = link->engine;
    struct pg_machine *m = &link->m;
    if (!error_is_set(&m->error) && !(m->result && pg_catalog_is_answer(m->result))) {
        error_set(err, ERROR_PROTOCOL,
                  "the server's answer about the types of the result has other columns than "
                  "were asked for");
        return false;
    }
    if (!error_is_set(&m->error) && pg_catalog_load(e->catalog, m->result))
        return true;
    if (is_barred(&m->error) && !m->in_transaction) {
        e->no_lookups = true;
        log_write(e->rt->log, LOG_LEVEL_WARN,
                  "postgres: types cannot be looked up in the catalog, so their values stay text: %s",
                  m->error.message);
        return true;
    }
    error_move(err, &m->error);
    if (!error_is_set(err))
        error_set(err, ERROR_QUERY, "not enough memory for the types of the result");
    return false;
}

void pg_lookup_tell(struct pg_link *link, struct error *err)
{
    err->outcome = link->m.in_transaction ? OUTCOME_FAILED : OUTCOME_UNKNOWN;
    error_set_field(err, ERROR_CONTEXT,
                    "the statement has run; this failed: looking up the types of its result in the catalog");
}
