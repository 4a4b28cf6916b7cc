/* Opening and closing a trace: its first and last lines. */
#include "trace/impl.h"

#include "base/deadline.h"
#include "trace/line.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Bytes for the lines of counts that are always written. */
enum { OTHERS_SIZE = 4 * 1024 };

/* The first lines, as one text. */
static bool first_lines(const struct trace *t, struct buf *out)
{
    static const char *const processes[] = {"tasks", "connections", "Redis"};
    char started[32];
    time_t now = time(NULL);
    struct tm tm;
    gmtime_r(&now, &tm);
    strftime(started, sizeof started, "%Y-%m-%dT%H:%M:%SZ", &tm);
    bool ok = !t->s.page || (buf_add(out, t->s.page, t->s.page_size) &&
                             buf_adds(out, "\n<script type=\"application/json\" id=\"events\">\n"));
    ok =
        ok && buf_addf(out,
                       "[\n{\"name\":\"dbrun_start\",\"ph\":\"M\",\"pid\":1,\"tid\":0,\"args\":{\"format\":1,"
                       "\"version\":\"%s\",\"started\":\"%s\",\"limit\":%llu,\"script\":\"",
                       t->s.version, started, (unsigned long long)t->s.limit);
    ok = ok && line_json(out, t->s.script, strlen(t->s.script)) && buf_adds(out, "\"}},\n");
    for (int i = 0; ok && i < 3; i++)
        ok = buf_addf(
            out,
            "{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":%d,\"tid\":0,\"args\":{\"name\":\"%s\"}},\n"
            "{\"name\":\"process_sort_index\",\"ph\":\"M\",\"pid\":%d,\"tid\":0,\"args\":{"
            "\"sort_index\":%d}},\n",
            i + 1, processes[i], i + 1, i + 1);
    return ok;
}

static void put_line(void *data, const char *line, size_t len)
{
    struct trace *t = data;
    char *at = trace_file_begin(t->file, len);
    if (at)
        trace_file_end(t->file, line_put(at, line, len));
}

static void add_times(const struct trace *t, struct buf *out)
{
    uint64_t lua = t->ran > t->blocked ? t->ran - t->blocked : 0;
    buf_adds(out, "\"time_us\":{");
    for (int cat = 0; cat < TRACE_CATS; cat++)
        if (cat != TRACE_PIPED && cat != TRACE_TRANSACTION)
            buf_addf(out, "\"%s\":%llu,", trace_cat_names[cat], (unsigned long long)(t->sum[cat] / 1000));
    buf_addf(out, "\"lua\":%llu}", (unsigned long long)(lua / 1000));
}

static void last_lines(struct trace *t, int status)
{
    struct buf out = {0};
    trace_texts_tell(t->texts, (size_t)trace_totals_room(t) - OTHERS_SIZE, put_line, t);
    buf_addf(&out,
             "{\"name\":\"dbrun_totals\",\"ph\":\"M\",\"pid\":1,\"tid\":0,\"args\":{\"elapsed_us\":%llu,"
             "\"status\":%d,"
             "\"written\":%llu,\"left_out\":%llu,\"least_us\":%llu,",
             (unsigned long long)trace_time(t, mono_now()), status, (unsigned long long)t->written,
             (unsigned long long)t->left_out, (unsigned long long)(t->least / 1000));
    add_times(t, &out);
    buf_adds(&out, "}}\n]\n");
    if (t->s.page)
        buf_adds(&out, "</script>\n");
    if (!out.oom)
        put_line(t, out.data, out.len);
    buf_free(&out);
}

/* ---- life ---- */

static struct trace_file *open_file(const struct trace *t)
{
    struct buf first = {0};
    struct trace_file *f = NULL;
    errno = ENOMEM;
    if (first_lines(t, &first))
        f = trace_file_open(t->s.path, first.data, first.len);
    int reason = errno;
    buf_free(&first);
    errno = reason;
    return f;
}

static void free_all(struct trace *t)
{
    trace_lanes_free(t);
    trace_texts_free(t->texts);
    free(t);
}

struct trace *trace_open(const struct trace_settings *s)
{
    struct trace *t = calloc(1, sizeof *t);
    if (!t || !(t->texts = trace_texts_new())) {
        free(t);
        errno = ENOMEM;
        return NULL;
    }
    t->s = *s;
    t->start = mono_now();
    t->room = s->limit - trace_totals_room(t);
    t->lowest = 1;
    t->file = open_file(t);
    if (t->file) {
        trace_file_start(t->file, trace_tell_records, t);
        return t;
    }
    int reason = errno;
    free_all(t);
    errno = reason;
    return NULL;
}

void trace_close(struct trace *t, int status)
{
    if (!t)
        return;
    trace_runs(t);
    trace_file_lock(t->file);
    trace_tell_records(t);
    last_lines(t, status);
    trace_file_unlock(t->file);
    trace_tell_failure(t, trace_file_close(t->file));
    free_all(t);
}

void trace_mask(struct trace *t, const struct secrets *secrets)
{
    trace_texts_mask(t->texts, secrets);
}

void trace_rescue(struct trace *t)
{
    trace_file_rescue(t->file);
}

void trace_before_fork(struct trace *t)
{
    trace_file_before_fork(t->file);
}

void trace_after_fork(struct trace *t, bool child)
{
    trace_file_after_fork(t->file, child);
}

void trace_runs(struct trace *t)
{
    uint64_t now = mono_now();
    if (t->since)
        t->ran += now - t->since;
    t->since = now;
}

void trace_waits(struct trace *t)
{
    t->since = 0;
}

uint64_t trace_resumed(const struct trace *t, const struct trace_span *span)
{
    return t->since > span->start ? t->since : mono_now();
}
