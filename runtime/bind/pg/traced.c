#include "bind/pg/traced.h"

#include "base/deadline.h"
#include "base/number.h"

#include <stdlib.h>
#include <string.h>

void pg_traced_new(struct pg_link *link)
{
    struct trace *t = link->engine->rt->trace;
    link->traced = calloc(1, sizeof *link->traced); /* without memory its transactions are not recorded */
    trace_name_connection(t, link->pid);
}

/* ---- the transaction ---- */

static void end_transaction(struct pg_link *link, const char *how)
{
    struct pg_traced *d = link->traced;
    struct trace_event event = {.cat = TRACE_TRANSACTION,
                                .text = d->transaction_text,
                                .task = d->transaction_task,
                                .conn = link->pid,
                                .end = how};
    trace_end(link->engine->rt->trace, &d->transaction, &event);
}

static void begin_transaction(struct pg_link *link, uint64_t start, const struct trace_event *by)
{
    struct pg_traced *d = link->traced;
    struct runtime *rt = link->engine->rt;
    struct trace_key key = {
        .cat = TRACE_TRANSACTION, .name = "transaction", .file = by->file, .line = by->line};
    d->transaction_text = trace_keep(rt->trace, &key);
    d->transaction_task = by->task;
    d->transaction = task_span(rt->sched, start);
}

static const char *end_of(const PGresult *result)
{
    static const char *const ends[] = {"COMMIT", "ROLLBACK"};
    const char *tag = result ? PQcmdStatus((PGresult *)result) : "";
    for (int i = 0; i < 2; i++)
        if (strncmp(tag, ends[i], strlen(ends[i])) == 0)
            return ends[i];
    return NULL;
}

void pg_traced_settled(struct pg_link *link, uint64_t start, const struct trace_event *event,
                       const PGresult *result)
{
    if (!link->traced || (link->m.state != PG_BROKEN && pg_machine_is_busy(&link->m)))
        return;
    bool is_open = link->m.state != PG_BROKEN && pg_machine_in_transaction(&link->m);
    bool was_open = link->traced->transaction.serial != 0;
    if (was_open && !is_open)
        end_transaction(link, end_of(result));
    else if (is_open && !was_open)
        begin_transaction(link, start, event);
}

/* ---- COPY, rows ---- */

void pg_traced_work(lua_State *L, struct pg_link *link, enum trace_cat cat, const char *name, const char *sql,
                    size_t len)
{
    struct pg_traced *d = link->traced;
    struct runtime *rt = link->engine->rt;
    struct script_place place = {.line = 0};
    if (d->work.serial)
        pg_traced_work_over(link, NULL);
    script_place(L, 1, &place);
    struct trace_key key = {
        .cat = cat, .name = name, .sql = sql, .len = len, .file = place.file, .line = place.line};
    d->work_text = trace_keep(rt->trace, &key);
    d->work_cat = cat;
    d->work_task = task_id(task_current(rt->sched));
    d->rows = d->waited = d->parked = 0;
    d->work = task_span(rt->sched, mono_now());
}

void pg_traced_work_over(struct pg_link *link, const struct error *e)
{
    struct pg_traced *d = link->traced;
    pg_traced_goes_on(link);
    struct trace_event event = {.cat = d->work_cat,
                                .text = d->work_text,
                                .task = d->work_task,
                                .conn = link->pid,
                                .has_rows = d->work_cat == TRACE_ROWS || d->rows > 0,
                                .rows = d->rows,
                                .has_wait = d->work_cat != TRACE_PIPELINE,
                                .wait = d->waited,
                                .blocking = link->engine->sync};
    if (e && e->kind != ERROR_NONE)
        pg_traced_failed(&event, e);
    trace_end(link->engine->rt->trace, &d->work, &event);
}

void pg_traced_parks(struct pg_link *link)
{
    link->traced->parked = mono_now();
}

void pg_traced_goes_on(struct pg_link *link)
{
    struct pg_traced *d = link->traced;
    if (d->parked)
        d->waited += mono_now() - d->parked;
    d->parked = 0;
}

/* ---- several statements at once ---- */

/* Records statement `i` of the list at stack index 2. */
static void tell_piped(lua_State *L, struct pg_link *link, size_t i, struct trace_event event,
                       const struct error *e)
{
    int top = lua_gettop(L);
    const struct pg_batch *b = &link->m.batch;
    event.cat = TRACE_PIPED;
    if (lua_rawgeti(L, 2, (lua_Integer)i + 1) == LUA_TTABLE && lua_rawgeti(L, -1, 1) == LUA_TSTRING)
        event.sql = lua_tolstring(L, -1, &event.len); /* the list keeps it */
    if (i < b->n && b->list)
        pg_traced_rows(&event, b->list[i]);
    else if (i >= b->n)
        pg_traced_failed(&event, e);
    if (event.sql)
        trace_part(link->engine->rt->trace, &link->traced->work, &event);
    lua_settop(L, top);
}

void pg_traced_batch_over(lua_State *L, struct pg_link *link, const char *sql, size_t n)
{
    struct pg_traced *d = link->traced;
    struct script_place place;
    const struct error *e = error_is_set(&link->m.error) ? &link->m.error : NULL;
    uint64_t start = d->work.start;
    if (!d->work.serial || !lua_checkstack(L, 2))
        return;
    struct trace_event event = pg_traced_event(L, link->engine->rt, TRACE_PIPELINE, &place);
    event.conn = link->pid;
    event.blocking = link->engine->sync;
    for (size_t i = 0; !sql && i < n && i <= link->m.batch.n; i++)
        tell_piped(L, link, i, event, e);
    event.text = d->work_text;
    event.sql = sql;
    event.count = n;
    event.has_rows = sql != NULL;
    event.rows = (uint64_t)link->m.batch.affected;
    if (e)
        pg_traced_failed(&event, e);
    trace_end(link->engine->rt->trace, &d->work, &event);
    pg_traced_settled(link, start, &event, NULL);
}

/* ---- ends ---- */

void pg_traced_over(struct pg_link *link)
{
    if (link->traced->work.serial)
        pg_traced_work_over(link, NULL);
    if (link->traced->transaction.serial)
        end_transaction(link, NULL);
}

void pg_traced_free(struct pg_link *link)
{
    pg_traced_over(link);
    free(link->traced);
    link->traced = NULL;
}

/* ---- events ---- */

struct trace_event pg_traced_event(lua_State *L, struct runtime *rt, enum trace_cat cat,
                                   struct script_place *place)
{
    place->line = 0;
    script_place(L, 1, place);
    return (struct trace_event){
        .cat = cat, .file = place->file, .line = place->line, .task = task_id(task_current(rt->sched))};
}

void pg_traced_failed(struct trace_event *event, const struct error *e)
{
    event->kind = error_kind_name(e->kind);
    event->code = e->field ? e->field[ERROR_SQLSTATE] : NULL;
    event->has_rows = event->has_rows && event->rows > 0;
}

void pg_traced_rows(struct trace_event *event, const PGresult *result)
{
    if (!result)
        return;
    if (PQnfields(result) > 0) {
        event->has_rows = true;
        event->rows = (uint64_t)PQntuples(result);
        return;
    }
    const char *counted = PQcmdTuples((PGresult *)result);
    event->has_rows = *counted;
    event->rows = (uint64_t)number_int(counted);
}
