#include "bind/pg/stale.h"
#include "bind/pg/params.h"

#include <string.h>

/* The old type's input function can refuse a value with any SQLSTATE of class 22 (data exception), or of
 * class 42 when it parses the text or looks a name up (tsquery, regclass); a domain refuses with the SQLSTATE
 * of a constraint. */
bool pg_stale_is_suspect(const char *state, bool of_datatype)
{
    static const char *const classes[] = {"22", "42", "3F", "XX"};
    if (!state || strcmp(state, "42501") == 0)
        return false;
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (strncmp(state, classes[i], 2) == 0)
            return true;
    return of_datatype && strncmp(state, "23", 2) == 0;
}

bool pg_stale_ask(lua_State *L, struct pg_statement *st)
{
    struct pg_machine *m = &st->link->m;
    struct pg_encoded enc;
    if (st->comparing == COMPARE_NONE) {
        st->comparing = COMPARE_OLD;
        return pg_machine_describe_prepared(m, st->entry);
    }
    st->comparing = COMPARE_NEW;
    if (!pg_params_encode(L, 3, st->nparams, &enc))
        return false;
    bool sent = pg_machine_describe(m, st->entry->sql, &enc.p);
    pg_params_free(&enc);
    return sent;
}

static bool is_same(const PGresult *a, const PGresult *b, bool with_params)
{
    if (PQnparams(a) != PQnparams(b) || PQnfields(a) != PQnfields(b))
        return false;
    for (int i = 0; with_params && i < PQnparams(a); i++)
        if (PQparamtype(a, i) != PQparamtype(b, i))
            return false;
    for (int i = 0; i < PQnfields(a); i++)
        if (PQftype(a, i) != PQftype(b, i) || PQfmod(a, i) != PQfmod(b, i))
            return false;
    return true;
}

static enum pg_stale answer(struct pg_statement *st, enum pg_stale how)
{
    PQclear(st->old);
    st->old = NULL;
    st->comparing = COMPARE_NONE;
    if (how == PG_STALE_YES) {
        pg_cache_renew(st->link->m.cache, st->entry);
        st->entry->binary = false;
    }
    return how;
}

/* True when the description's error shows that the statement's meaning has changed, and not that the
 * description was cancelled, ran into a limit of the server, or needs the types of the parameters. */
static bool is_telling(const struct pg_statement *st, const struct error *e)
{
    const char *state = e->field[ERROR_SQLSTATE];
    if (st->stale_only && st->entry->typed && st->comparing == COMPARE_NEW)
        return false;
    return state && (strncmp(state, "0A", 2) == 0 || strncmp(state, "26", 2) == 0 ||
                     pg_stale_is_suspect(state, false));
}

/* The server refuses neither description as long as nothing has changed. */
enum pg_stale pg_stale_take(struct pg_statement *st)
{
    struct pg_machine *m = &st->link->m;
    PGresult *r = pg_machine_take(m);
    if (error_is_set(&m->error)) {
        PQclear(r);
        if (m->error.kind == ERROR_CANCELLED) {
            error_move(&st->error, &m->error);
            return answer(st, PG_STALE_CANCELLED);
        }
        bool telling = m->state == PG_IDLE && is_telling(st, &m->error);
        error_clear(&m->error);
        return answer(st, telling ? PG_STALE_YES : PG_STALE_NO);
    }
    if (st->comparing == COMPARE_OLD) {
        st->old = r;
        return PG_STALE_ASK;
    }
    /* transaction() asks without the values, so without the types that they declare */
    bool same = is_same(st->old, r, !st->stale_only || !st->entry->typed);
    PQclear(r);
    return answer(st, same ? PG_STALE_NO : PG_STALE_YES);
}
