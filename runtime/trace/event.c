/* Events as lines. */
#include "trace/impl.h"

#include "base/deadline.h"
#include "trace/line.h"

#include <string.h>

const struct trace_text *trace_keep(struct trace *t, const struct trace_key *key)
{
    return trace_text_find(t->texts, key, true);
}

/* Bytes of an event's numbers and words, at most. */
enum { NUMBERS = 700 };

/* Bytes of its lines, at most. */
static size_t size_of(const struct trace_text *x)
{
    return 2 * x->head.len + x->args.len + NUMBERS;
}

static struct trace_text *text_of(struct trace *t, const struct trace_event *e)
{
    if (e->text)
        return (struct trace_text *)e->text;
    struct trace_key key = {
        .cat = e->cat, .name = e->name, .sql = e->sql, .len = e->len, .file = e->file, .line = e->line};
    return trace_text_find(t->texts, &key, false);
}

static char *add_member(char *at, const char *name, uint64_t n)
{
    at = line_lit(at, ",\"");
    at = line_word(at, name);
    at = line_lit(at, "\":");
    return line_number(at, n);
}

static char *add_word(char *at, const char *name, const char *word)
{
    at = line_lit(at, ",\"");
    at = line_word(at, name);
    at = line_lit(at, "\":\"");
    size_t len = 0;
    while (len < 40 && word[len] > ' ' && word[len] < 0x7f && !strchr("\"\\<", word[len]))
        len++;
    return line_lit(line_put(at, word, len), "\"");
}

static char *add_args(char *at, const struct trace_text *x, const struct trace_event *e, uint32_t lane)
{
    at = line_lit(at, ",\"args\":{\"task\":");
    at = line_number(at, e->task);
    if (x->args.len)
        at = line_put(at, x->args.data, x->args.len);
    if (e->conn)
        at = add_member(at, "conn", (uint32_t)e->conn);
    if (lane)
        at = add_member(at, "lane", lane);
    if (e->count)
        at = add_member(at, e->cat == TRACE_REDIS ? "commands" : "statements", e->count);
    if (e->has_rows)
        at = add_member(at, "rows", e->rows);
    if (e->has_wait)
        at = add_member(at, "wait", e->wait / 1000);
    if (e->redis)
        at = line_lit(at, ",\"redis\":true");
    if (e->end)
        at = add_word(at, "end", e->end);
    if (e->kind)
        at = add_word(at, "kind", e->kind);
    if (e->kind && e->code)
        at = add_word(at, e->cat == TRACE_REDIS ? "code" : "sqlstate", e->code);
    return line_lit(at, "}},\n");
}

static char *add_where(char *at, unsigned pid, uint64_t tid, uint64_t ts)
{
    at = line_lit(at, ",\"pid\":");
    at = line_number(at, pid);
    at = line_lit(at, ",\"tid\":");
    at = line_number(at, tid);
    at = line_lit(at, ",\"ts\":");
    return line_number(at, ts);
}

static void put_whole(struct trace *t, const struct trace_text *x, const struct trace_event *e,
                      const struct trace_span *span, uint64_t now)
{
    char *at = trace_file_begin(t->file, TRACE_LINE);
    if (!at)
        return;
    uint64_t ts = trace_time(t, span->start);
    at = line_put(at, x->head.data, x->head.len);
    at = line_lit(at, ",\"ph\":\"X\"");
    at = add_where(at, TRACE_TASKS, span->lane, ts);
    at = line_lit(at, ",\"dur\":");
    at = line_number(at, trace_time(t, now) - ts);
    trace_file_end(t->file, add_args(at, x, e, 0));
}

static void put_half(struct trace *t, const struct trace_text *x, const struct trace_event *e, char phase,
                     const struct trace_span *span, uint64_t time)
{
    bool on_connection = e->cat == TRACE_SHARED || e->cat == TRACE_PIPED;
    char *at = trace_file_begin(t->file, TRACE_LINE);
    if (!at)
        return;
    at = line_put(at, x->head.data, x->head.len);
    at = line_lit(at, ",\"ph\":\"");
    *at++ = phase;
    at = line_lit(at, "\",\"id\":");
    at = line_number(at, t->next_id);
    at = add_where(at, on_connection ? TRACE_CONNECTIONS : TRACE_TASKS,
                   on_connection ? (uint32_t)e->conn : span->lane, trace_time(t, time));
    at = phase == 'b' ? add_args(at, x, e, span->lane) : line_lit(at, "},\n");
    trace_file_end(t->file, at);
}

static void put_pair(struct trace *t, const struct trace_text *x, const struct trace_event *e,
                     const struct trace_span *span, uint64_t now)
{
    t->next_id++;
    put_half(t, x, e, 'b', span, span->start);
    put_half(t, x, e, 'e', span, now);
}

static void put_error(struct trace *t, const struct trace_text *x, const struct trace_event *e, uint32_t lane,
                      uint64_t now)
{
    struct trace_event only = {.cat = e->cat, .task = e->task, .kind = e->kind, .code = e->code};
    char *at = trace_has_room(t, size_of(x)) ? trace_file_begin(t->file, TRACE_LINE) : NULL;
    if (!at)
        return;
    at = line_lit(at, "{\"cat\":\"error\",\"ph\":\"i\",\"s\":\"t\"");
    at = add_word(at, "name", e->code ? e->code : e->kind);
    at = add_where(at, TRACE_TASKS, lane, trace_time(t, now));
    trace_file_end(t->file, add_args(at, x, &only, 0));
}

static void count(struct trace *t, struct trace_text *x, const struct trace_event *e, uint64_t ns)
{
    bool parted = e->cat == TRACE_ROWS || e->cat == TRACE_COPY;
    uint64_t waited = parted ? e->wait : ns;
    trace_text_count(x, e->cat == TRACE_PIPELINE && e->sql ? e->count : 1, ns, e->has_rows ? e->rows : 0,
                     e->kind != NULL);
    t->sum[e->cat] += waited;
    if (e->blocking)
        t->blocked += waited;
}

void trace_end(struct trace *t, struct trace_span *span, const struct trace_event *e)
{
    if (!span->serial)
        return;
    bool nests = trace_pop(t, span);
    uint64_t now = e->until ? e->until : mono_now();
    uint64_t ns = now > span->start ? now - span->start : 0;
    struct trace_text *x = text_of(t, e);
    span->serial = 0;
    if (!x)
        return;
    count(t, x, e, ns);
    if (trace_is_wanted(t, ns, size_of(x))) {
        if (nests && e->cat != TRACE_SHARED)
            put_whole(t, x, e, span, now);
        else
            put_pair(t, x, e, span, now);
        trace_note_written(t, ns);
    }
    if (e->kind)
        put_error(t, x, e, span->lane, now);
}

void trace_piped(struct trace *t, const struct trace_span *span, const struct trace_event *e)
{
    uint64_t now = mono_now();
    uint64_t ns = now > span->start ? now - span->start : 0;
    struct trace_text *x = text_of(t, e);
    if (!span->serial || !x)
        return;
    count(t, x, e, ns);
    if (trace_is_wanted(t, ns, size_of(x))) {
        put_pair(t, x, e, span, now);
        trace_note_written(t, ns);
    }
}

void trace_connected(struct trace *t, unsigned pid, uint64_t start, const char *kind)
{
    static const char head[] = "{\"name\":\"connect\",\"cat\":\"connect\",\"ph\":\"";
    uint64_t now = mono_now();
    if (!trace_is_wanted(t, now - start, NUMBERS))
        return;
    t->next_id++;
    trace_note_written(t, now - start);
    for (int end = 0; end < 2; end++) {
        char *at = trace_file_begin(t->file, TRACE_LINE);
        if (!at)
            return;
        at = line_lit(at, head);
        *at++ = end ? 'e' : 'b';
        at = line_lit(at, "\",\"id\":");
        at = line_number(at, t->next_id);
        at = add_where(at, pid, pid == TRACE_REDIS_SERVER, trace_time(t, end ? now : start));
        at = line_lit(at, ",\"args\":{\"opened\":");
        at = kind ? line_lit(at, "false") : line_lit(at, "true");
        if (kind)
            at = add_word(at, "kind", kind);
        trace_file_end(t->file, line_lit(at, "}},\n"));
    }
}

void trace_name_connection(struct trace *t, int conn)
{
    trace_name_thread(t, TRACE_CONNECTIONS, (uint32_t)conn, "backend ");
}
