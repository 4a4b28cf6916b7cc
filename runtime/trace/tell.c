/* Writes events as lines. */
#include "trace/impl.h"

#include "base/deadline.h"
#include "trace/line.h"

#include <string.h>

/* The most bytes that an event's numbers and words take. */
enum { NUMBERS = 700 };

/* The most bytes that its lines take. */
static size_t size_of(const struct trace_text *x)
{
    return 2 * x->head.len + x->args.len + NUMBERS;
}

#define add_member(at, name, n) line_number(line_lit((at), ",\"" name "\":"), (n))

static char *add_word(char *at, const char *word)
{
    size_t len = 0;
    while (len < 40 && word[len] > ' ' && word[len] < 0x7f && !strchr("\"\\<", word[len]))
        len++;
    return line_lit(line_put(at, word, len), "\"");
}

static char *add_args(char *at, const struct record *r, uint32_t lane)
{
    const struct trace_text *x = r->text;
    at = line_number(line_lit(at, ",\"args\":{\"task\":"), r->task);
    if (x->args.len)
        at = line_put(at, x->args.data, x->args.len);
    if (r->conn)
        at = add_member(at, "conn", (uint32_t)r->conn);
    if (lane)
        at = add_member(at, "lane", lane);
    if (r->count)
        at = x->cat == TRACE_REDIS ? add_member(at, "commands", r->count)
                                   : add_member(at, "statements", r->count);
    if (r->has_rows)
        at = add_member(at, "rows", r->rows);
    if (r->has_wait)
        at = add_member(at, "wait", r->wait / 1000);
    if (r->redis)
        at = line_lit(at, ",\"redis\":true");
    if (r->end)
        at = add_word(line_lit(at, ",\"end\":\""), r->end);
    if (r->kind)
        at = add_word(line_lit(at, ",\"kind\":\""), r->kind);
    if (r->kind && r->code)
        at = add_word(x->cat == TRACE_REDIS ? line_lit(at, ",\"code\":\"") : line_lit(at, ",\"sqlstate\":\""),
                      r->code);
    return line_lit(at, "}},\n");
}

static char *add_where(char *at, unsigned pid, uint64_t tid, uint64_t ts)
{
    at = add_member(at, "pid", pid);
    at = add_member(at, "tid", tid);
    return add_member(at, "ts", ts);
}

static char *add_whole(char *at, const struct trace *t, const struct record *r)
{
    uint64_t ts = trace_time(t, r->start);
    at = line_put(at, r->text->head.data, r->text->head.len);
    at = line_lit(at, ",\"ph\":\"X\",\"pid\":1,\"tid\":");
    at = line_number(at, r->lane);
    at = add_member(at, "ts", ts);
    at = add_member(at, "dur", trace_time(t, r->until) - ts);
    return add_args(at, r, 0);
}

/* Adds b and e: the second line is like the first up to its time, except for its phase. */
static char *add_pair(char *at, struct trace *t, const struct record *r)
{
    const struct trace_text *x = r->text;
    bool on_connection = x->cat == TRACE_SHARED || x->cat == TRACE_PIPED;
    char *first = at;
    at = line_put(at, x->head.data, x->head.len);
    at = line_lit(at, ",\"ph\":\"");
    ptrdiff_t phase = at - first;
    at = line_number(line_lit(at, "b\",\"id\":"), ++t->next_id);
    at = add_member(at, "pid", on_connection ? TRACE_CONNECTIONS : TRACE_TASKS);
    at = add_member(at, "tid", on_connection ? (uint32_t)r->conn : r->lane);
    at = line_lit(at, ",\"ts\":");
    size_t same = (size_t)(at - first);
    at = add_args(line_number(at, trace_time(t, r->start)), r, r->lane);
    char *second = at;
    at = line_put(at, first, same);
    second[phase] = 'e';
    return line_lit(line_number(at, trace_time(t, r->until)), "},\n");
}

static void put_error(struct trace *t, const struct record *r)
{
    struct record only = {.text = r->text, .task = r->task, .kind = r->kind, .code = r->code};
    char *at = trace_has_room(t, size_of(r->text)) ? trace_file_begin(t->file, TRACE_LINES) : NULL;
    if (!at)
        return;
    at = line_lit(at, "{\"cat\":\"error\",\"ph\":\"i\",\"s\":\"t\",\"name\":\"");
    at = add_word(at, r->code ? r->code : r->kind);
    at = add_where(at, TRACE_TASKS, r->lane, trace_time(t, r->until));
    trace_file_end(t->file, add_args(at, &only, 0));
}

static void count(struct trace *t, const struct record *r, uint64_t ns)
{
    struct trace_text *x = r->text;
    bool parted = x->cat == TRACE_ROWS || x->cat == TRACE_COPY;
    uint64_t waited = parted ? r->wait : ns;
    trace_text_count(x, r->many ? r->count : 1, ns, r->has_rows ? r->rows : 0, r->kind != NULL);
    t->sum[x->cat] += waited;
    if (r->blocking)
        t->blocked += waited;
}

void trace_tell(struct trace *t, const struct record *r)
{
    uint64_t ns = r->until > r->start ? r->until - r->start : 0;
    count(t, r, ns);
    if (trace_is_wanted(t, ns, r->until, size_of(r->text))) {
        char *at = trace_file_begin(t->file, TRACE_LINES);
        if (at)
            trace_file_end(t->file, r->whole ? add_whole(at, t, r) : add_pair(at, t, r));
        trace_note_written(t, ns);
    }
    if (r->kind)
        put_error(t, r);
}

void trace_tell_records(void *data)
{
    struct trace *t = data;
    uint32_t ended = atomic_load_explicit(&t->ended, memory_order_acquire);
    for (uint32_t i = t->told; i != ended; i++) {
        trace_tell(t, &t->records[i % TRACE_RECORDS]);
        atomic_store_explicit(&t->told, i + 1, memory_order_release);
    }
    if (trace_file_has_failed(t->file))
        t->failed = true;
}

void trace_connected(struct trace *t, unsigned pid, uint64_t start, const char *kind)
{
    static const char head[] = "{\"name\":\"connect\",\"cat\":\"connect\",\"ph\":\"";
    uint64_t now = mono_now();
    trace_file_lock(t->file);
    char *at = trace_is_wanted(t, now - start, now, NUMBERS) ? trace_file_begin(t->file, NUMBERS) : NULL;
    if (at) {
        t->next_id++;
        trace_note_written(t, now - start);
        for (int end = 0; end < 2; end++) {
            at = line_lit(at, head);
            *at++ = end ? 'e' : 'b';
            at = line_number(line_lit(at, "\",\"id\":"), t->next_id);
            at = add_where(at, pid, pid == TRACE_REDIS_SERVER, trace_time(t, end ? now : start));
            at = line_lit(at, ",\"args\":{\"opened\":");
            at = kind ? line_lit(at, "false") : line_lit(at, "true");
            if (kind)
                at = add_word(line_lit(at, ",\"kind\":\""), kind);
            at = line_lit(at, "}},\n");
        }
        trace_file_end(t->file, at);
    }
    trace_file_unlock(t->file);
}
