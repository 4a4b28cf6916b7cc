#include "trace/trace.h"

#include "base/deadline.h"
#include "trace/file.h"
#include "trace/line.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    LINE_SIZE = TRACE_TEXT_SIZE + 800, /* a line at most */
    STEPS = 16,                        /* the room for lines is filled in so many steps; from half of it on each leaves
                                          out more */
    TOTALS_SHARE = 4,                  /* this part of the limit, but not more than TOTALS_MOST, is for the counts */
    TOTALS_MOST = 4 << 20,
    OTHERS_SIZE = 4 * 1024             /* for lines of the counts that are always written */
};

/* What has begun in the lane and not ended, outermost first. */
struct lane {
    uint64_t *open;
    uint32_t n;
    uint32_t cap;
    bool taken;
};

struct trace {
    struct trace_settings s;
    struct trace_file *file;
    struct trace_texts *texts;
    uint64_t start; /* of the program, on the monotonic clock */
    uint64_t room;  /* bytes for events */
    uint64_t least; /* ns: shorter events are left out */
    unsigned step;
    bool full;
    struct lane *lanes; /* from 1 on */
    uint32_t nlanes;
    uint32_t lowest; /* no lane below it is free */
    uint64_t serial;
    uint64_t next_id; /* of pairs of b and e */
    uint64_t written;
    uint64_t left_out;
    uint64_t sum[TRACE_CATS];
    uint64_t ran, running_since, blocked;
    uint64_t count[TRACE_BUCKETS]; /* of written events by the power of two of their us */
};

/* ---- the file's end ---- */

static void tell_failure(struct trace *t, int reason)
{
    char text[600];
    if (!reason)
        return;
    snprintf(text, sizeof text,
             "--trace: cannot write %.400s: %s; it ends there, and the program goes on", t->s.path,
             strerror(reason));
    t->s.tell(t->s.data, text);
}

static void line_end(struct trace *t, const char *at)
{
    trace_file_end(t->file, at);
}

/* ---- the limit ---- */

static unsigned power_of(uint64_t ns)
{
    uint64_t us = ns / 1000;
    return us == 0 ? 0 : 64 - (unsigned)__builtin_clzll(us);
}

/* The duration that about half of the events written so far took, as a power of two of us. */
static uint64_t usual_duration(const struct trace *t)
{
    uint64_t seen = 0;
    for (unsigned i = 0; i < 64; i++) {
        seen += t->count[i];
        if (seen * 2 >= t->written)
            return (UINT64_C(1) << i) * 1000;
    }
    return NS_PER_MS;
}

static uint64_t since_start(const struct trace *t, uint64_t time)
{
    return time > t->start ? (time - t->start) / 1000 : 0;
}

static void tell_least(struct trace *t)
{
    char *at = trace_file_begin(t->file, LINE_SIZE);
    if (!at)
        return;
    at = line_lit(at, "{\"name\":\"shorter events are left out\",\"cat\":\"trace\",\"ph\":\"i\",\"s\":\"g\",\"pid\":1,"
                      "\"tid\":0,\"ts\":");
    at = line_number(at, since_start(t, mono_now()));
    at = line_lit(at, ",\"args\":{\"least_us\":");
    at = line_number(at, t->least / 1000);
    line_end(t, line_lit(at, "}},\n"));
}

/* As the file fills, only longer and longer events are written. */
static void look_at_limit(struct trace *t)
{
    uint64_t size = trace_file_size(t->file);
    tell_failure(t, trace_file_failure(t->file));
    if (t->full || size < t->room / STEPS * (t->step + 1))
        return;
    t->step = (unsigned)(size / (t->room / STEPS));
    if (t->step >= STEPS) {
        t->full = true;
        return;
    }
    if (t->step < STEPS / 2)
        return;
    t->least = t->least ? t->least * 2 : usual_duration(t);
    tell_least(t);
}

static bool is_wanted(struct trace *t, uint64_t ns)
{
    look_at_limit(t);
    if (!t->full && ns >= t->least)
        return true;
    t->left_out++;
    return false;
}

/* ---- lines about the whole ---- */

static void name_thread(struct trace *t, unsigned pid, uint64_t tid, const char *what)
{
    char *at = t->full ? NULL : trace_file_begin(t->file, LINE_SIZE);
    if (!at)
        return;
    at = line_lit(at, "{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":");
    at = line_number(at, pid);
    at = line_lit(at, ",\"tid\":");
    at = line_number(at, tid);
    at = line_lit(at, ",\"args\":{\"name\":\"");
    at = line_word(at, what);
    at = line_number(at, tid);
    line_end(t, line_lit(at, "\"}},\n"));
}

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
    ok = ok && buf_addf(out,
                        "[\n{\"name\":\"dbrun_start\",\"ph\":\"M\",\"pid\":1,\"tid\":0,\"args\":{\"format\":1,"
                        "\"version\":\"%s\",\"started\":\"%s\",\"limit\":%llu,\"script\":\"",
                        t->s.version, started, (unsigned long long)t->s.limit);
    ok = ok && line_json(out, t->s.script, strlen(t->s.script)) && buf_adds(out, "\"}},\n");
    for (int i = 0; ok && i < 3; i++)
        ok = buf_addf(out,
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
        line_end(t, line_put(at, line, len));
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

/* The limit is 64 KiB at least. */
static uint64_t totals_room(const struct trace *t)
{
    uint64_t room = t->s.limit / TOTALS_SHARE;
    return room < TOTALS_MOST ? room : TOTALS_MOST;
}

static void last_lines(struct trace *t, int status)
{
    struct buf out = {0};
    trace_texts_tell(t->texts, (size_t)totals_room(t) - OTHERS_SIZE, put_line, t);
    buf_addf(&out,
             "{\"name\":\"dbrun_totals\",\"ph\":\"M\",\"pid\":1,\"tid\":0,\"args\":{\"elapsed_us\":%llu,\"status\":%d,"
             "\"written\":%llu,\"left_out\":%llu,\"least_us\":%llu,",
             (unsigned long long)since_start(t, mono_now()), status, (unsigned long long)t->written,
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

static bool write_first(struct trace *t)
{
    struct buf first = {0};
    bool ok = first_lines(t, &first);
    if (!ok)
        errno = ENOMEM;
    ok = ok && trace_file_write(t->file, first.data, first.len);
    int reason = errno;
    buf_free(&first);
    errno = reason;
    return ok;
}

static void free_all(struct trace *t)
{
    for (uint32_t i = 0; i < t->nlanes; i++)
        free(t->lanes[i].open);
    free(t->lanes);
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
    t->room = s->limit - totals_room(t);
    t->lowest = 1;
    t->file = trace_file_open(s->path);
    if (t->file && write_first(t))
        return t;
    int reason = errno;
    if (t->file)
        trace_file_close(t->file);
    free_all(t);
    errno = reason;
    return NULL;
}

void trace_close(struct trace *t, int status)
{
    if (!t)
        return;
    trace_runs(t, false);
    last_lines(t, status);
    tell_failure(t, trace_file_close(t->file));
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

void trace_runs(struct trace *t, bool runs)
{
    uint64_t now = mono_now();
    if (t->running_since)
        t->ran += now - t->running_since;
    t->running_since = runs ? now : 0;
}

/* ---- lanes ---- */

static bool add_lanes(struct trace *t)
{
    uint32_t n = t->nlanes ? t->nlanes * 2 : 16;
    struct lane *lanes = realloc(t->lanes, n * sizeof *lanes);
    if (!lanes)
        return false;
    memset(lanes + t->nlanes, 0, (n - t->nlanes) * sizeof *lanes);
    t->lanes = lanes;
    t->nlanes = n;
    return true;
}

uint32_t trace_lane_take(struct trace *t)
{
    while (t->lowest < t->nlanes && t->lanes[t->lowest].taken)
        t->lowest++;
    if (t->lowest >= t->nlanes && !add_lanes(t))
        return 0;
    struct lane *lane = &t->lanes[t->lowest];
    lane->taken = true;
    if (!lane->open && (lane->open = malloc(4 * sizeof *lane->open))) {
        lane->cap = 4;
        name_thread(t, TRACE_TASKS, t->lowest, "lane ");
    }
    return t->lowest++;
}

void trace_lane_give(struct trace *t, uint32_t lane)
{
    if (lane == 0)
        return;
    t->lanes[lane].taken = false;
    t->lanes[lane].n = 0;
    if (lane < t->lowest)
        t->lowest = lane;
}

static bool push(struct trace *t, uint32_t number, uint64_t serial)
{
    struct lane *lane = &t->lanes[number];
    if (lane->n == lane->cap) {
        uint32_t cap = lane->cap ? lane->cap * 2 : 4;
        uint64_t *open = realloc(lane->open, cap * sizeof *open);
        if (!open)
            return false;
        lane->open = open;
        lane->cap = cap;
    }
    lane->open[lane->n++] = serial;
    return true;
}

struct trace_span trace_begin(struct trace *t, uint32_t lane, uint64_t start)
{
    struct trace_span span = {.start = start, .serial = ++t->serial, .lane = lane};
    if (lane == 0 || !push(t, lane, span.serial))
        span = (struct trace_span){0};
    return span;
}

/* Takes it out of its lane. True: what began in the lane after it has ended, so that it nests. */
static bool pop(struct trace *t, const struct trace_span *span)
{
    struct lane *lane = &t->lanes[span->lane];
    for (uint32_t i = lane->n; i > 0; i--) {
        if (lane->open[i - 1] != span->serial)
            continue;
        bool innermost = i == lane->n;
        memmove(lane->open + i - 1, lane->open + i, (lane->n - i) * sizeof *lane->open);
        lane->n--;
        return innermost;
    }
    return false;
}

void trace_drop(struct trace *t, struct trace_span *span)
{
    if (span->serial)
        pop(t, span);
    span->serial = 0;
}

/* ---- events ---- */

const struct trace_text *trace_keep(struct trace *t, const struct trace_key *key)
{
    return trace_text_find(t->texts, key, true);
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
        at = add_member(at, "conn", (uint64_t)e->conn);
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
    char *at = trace_file_begin(t->file, LINE_SIZE);
    if (!at)
        return;
    uint64_t ts = since_start(t, span->start);
    at = line_put(at, x->head.data, x->head.len);
    at = line_lit(at, ",\"ph\":\"X\"");
    at = add_where(at, TRACE_TASKS, span->lane, ts);
    at = line_lit(at, ",\"dur\":");
    at = line_number(at, since_start(t, now) - ts);
    line_end(t, add_args(at, x, e, 0));
}

static void put_half(struct trace *t, const struct trace_text *x, const struct trace_event *e, char phase,
                     const struct trace_span *span, uint64_t time)
{
    bool on_connection = e->cat == TRACE_SHARED || e->cat == TRACE_PIPED;
    char *at = trace_file_begin(t->file, LINE_SIZE);
    if (!at)
        return;
    at = line_put(at, x->head.data, x->head.len);
    at = line_lit(at, ",\"ph\":\"");
    *at++ = phase;
    at = line_lit(at, "\",\"id\":");
    at = line_number(at, t->next_id);
    at = add_where(at, on_connection ? TRACE_CONNECTIONS : TRACE_TASKS,
                   on_connection ? (uint64_t)e->conn : span->lane, since_start(t, time));
    at = phase == 'b' ? add_args(at, x, e, span->lane) : line_lit(at, "},\n");
    line_end(t, at);
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
    char *at = t->full ? NULL : trace_file_begin(t->file, LINE_SIZE);
    if (!at)
        return;
    at = line_lit(at, "{\"cat\":\"error\",\"ph\":\"i\",\"s\":\"t\"");
    at = add_word(at, "name", e->code ? e->code : e->kind);
    at = add_where(at, TRACE_TASKS, lane, since_start(t, now));
    line_end(t, add_args(at, x, &only, 0));
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

static void note_written(struct trace *t, uint64_t ns)
{
    t->written++;
    t->count[power_of(ns)]++;
}

void trace_end(struct trace *t, struct trace_span *span, const struct trace_event *e)
{
    if (!span->serial)
        return;
    bool nests = pop(t, span);
    uint64_t now = e->until ? e->until : mono_now();
    uint64_t ns = now > span->start ? now - span->start : 0;
    struct trace_text *x = text_of(t, e);
    span->serial = 0;
    if (!x)
        return;
    count(t, x, e, ns);
    if (is_wanted(t, ns)) {
        if (nests && e->cat != TRACE_SHARED)
            put_whole(t, x, e, span, now);
        else
            put_pair(t, x, e, span, now);
        note_written(t, ns);
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
    if (is_wanted(t, ns)) {
        put_pair(t, x, e, span, now);
        note_written(t, ns);
    }
}

void trace_connected(struct trace *t, unsigned pid, uint64_t start, const char *kind)
{
    static const char head[] = "{\"name\":\"connect\",\"cat\":\"connect\",\"ph\":\"";
    uint64_t now = mono_now();
    if (!is_wanted(t, now - start))
        return;
    t->next_id++;
    note_written(t, now - start);
    for (int end = 0; end < 2; end++) {
        char *at = trace_file_begin(t->file, LINE_SIZE);
        if (!at)
            return;
        at = line_lit(at, head);
        *at++ = end ? 'e' : 'b';
        at = line_lit(at, "\",\"id\":");
        at = line_number(at, t->next_id);
        at = add_where(at, pid, pid == TRACE_REDIS_SERVER, since_start(t, end ? now : start));
        at = line_lit(at, ",\"args\":{\"opened\":");
        at = kind ? line_lit(at, "false") : line_lit(at, "true");
        if (kind)
            at = add_word(at, "kind", kind);
        line_end(t, line_lit(at, "}},\n"));
    }
}

void trace_name_connection(struct trace *t, int conn)
{
    name_thread(t, TRACE_CONNECTIONS, (uint64_t)conn, "backend ");
}
