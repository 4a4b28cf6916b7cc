/* Ends events: makes records of them. */
#include "trace/impl.h"

#include "base/deadline.h"

const struct trace_text *trace_keep(struct trace *t, const struct trace_key *key)
{
    struct trace_text *x = trace_text_find(t->texts, key);
    return x ? x : trace_text_others(t->texts, key->cat);
}

static struct trace_text *text_of(struct trace *t, const struct trace_event *e)
{
    if (e->text)
        return (struct trace_text *)e->text;
    struct trace_key key = {
        .cat = e->cat, .name = e->name, .sql = e->sql, .len = e->len, .file = e->file, .line = e->line};
    struct trace_text *x = trace_text_find(t->texts, &key);
    return x ? x : trace_text_passing(t->texts, &key);
}

/* Makes lines of the waiting records, then of `now`, if set: what it points to does not stay. */
static void tell_records(struct trace *t, const struct record *now)
{
    trace_file_lock(t->file);
    trace_tell_records(t);
    if (now)
        trace_tell(t, now);
    trace_file_unlock(t->file);
    if (t->failed)
        trace_tell_failure(t, trace_file_failure(t->file));
    t->failed = false;
}

static void put(struct trace *t, const struct trace_span *span, const struct trace_event *e, uint64_t until,
                bool whole)
{
    struct trace_text *x = text_of(t, e);
    if (!x)
        return;
    uint32_t ended = t->ended;
    uint32_t waiting = ended - atomic_load_explicit(&t->told, memory_order_acquire);
    if (waiting == TRACE_RECORDS || t->failed)
        tell_records(t, NULL);
    else if (waiting == TRACE_RECORDS / 2)
        trace_file_wake(t->file);
    struct record *r = &t->records[ended % TRACE_RECORDS];
    *r = (struct record){.text = x,
                         .start = span->start,
                         .until = until,
                         .rows = e->rows,
                         .wait = e->wait,
                         .count = e->count,
                         .end = e->end,
                         .kind = e->kind,
                         .code = e->code,
                         .task = e->task,
                         .lane = span->lane,
                         .conn = e->conn,
                         .whole = whole && e->cat != TRACE_SHARED,
                         .many = e->cat == TRACE_PIPELINE && e->sql,
                         .has_rows = e->has_rows,
                         .has_wait = e->has_wait,
                         .blocking = e->blocking,
                         .redis = e->redis};
    if (e->kind || x->passes)
        tell_records(t, r);
    else
        atomic_store_explicit(&t->ended, ended + 1, memory_order_release);
}

void trace_end(struct trace *t, struct trace_span *span, const struct trace_event *e)
{
    if (!span->serial)
        return;
    bool nests = trace_pop(t, span);
    span->serial = 0;
    put(t, span, e, e->until ? e->until : mono_now(), nests);
}

void trace_part(struct trace *t, const struct trace_span *span, const struct trace_event *e)
{
    if (span->serial)
        put(t, span, e, e->until ? e->until : mono_now(), e->cat != TRACE_PIPED);
}

void trace_name_connection(struct trace *t, int conn)
{
    trace_name_thread(t, TRACE_CONNECTIONS, (uint32_t)conn, "backend ");
}
