/* The trace's file: lanes, spans that nest or overlap, the limit, texts that need escapes. */
#include "base/deadline.h"
#include "check.h"
#include "trace/line.h"
#include "trace/trace.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

static char path[] = "/tmp/dbrun-trace-XXXXXX/a.json";
static char folder[sizeof path];

static void no_failure(void *data, const char *text)
{
    (void)data;
    CHECK_NEVER(text);
}

static struct trace *open_trace(uint64_t limit)
{
    struct trace_settings s = {
        .path = path, .limit = limit, .version = "test", .script = "a.lua", .tell = no_failure};
    struct trace *t = trace_open(&s);
    CHECK(t != NULL);
    return t;
}

/* The file, which the caller frees. */
static char *read_trace(size_t *size)
{
    FILE *f = fopen(path, "rb");
    struct buf text = {0};
    char part[4096];
    size_t n;
    while (f && (n = fread(part, 1, sizeof part, f)) > 0)
        buf_add(&text, part, n);
    if (f)
        fclose(f);
    *size = text.len;
    return text.data;
}

static unsigned count(const char *text, const char *word)
{
    unsigned n = 0;
    for (const char *at = text; (at = strstr(at, word)) != NULL; at++)
        n++;
    return n;
}

static struct trace_event statement(const char *sql)
{
    return (struct trace_event){.cat = TRACE_POSTGRES, .sql = sql, .len = strlen(sql), .task = 1};
}

static void test_lanes(void)
{
    struct trace *t = open_trace(1 << 20);
    CHECK_EQ(trace_lane_take(t), 1);
    CHECK_EQ(trace_lane_take(t), 2);
    CHECK_EQ(trace_lane_take(t), 3);
    trace_lane_give(t, 2);
    trace_lane_give(t, 1);
    CHECK_EQ(trace_lane_take(t), 1);
    CHECK_EQ(trace_lane_take(t), 2);
    for (uint32_t i = 4; i <= 100; i++)
        CHECK_EQ(trace_lane_take(t), i);
    trace_lane_give(t, 0);
    trace_close(t, 0);
}

/* A pooler reports any number as the server's process. */
static void test_connections(void)
{
    struct trace *t = open_trace(1 << 20);
    struct trace_event event = statement("select 1");
    size_t size;
    event.conn = -2;
    trace_name_connection(t, event.conn);
    struct trace_span span = trace_begin(t, trace_lane_take(t), mono_now());
    trace_end(t, &span, &event);
    trace_close(t, 0);
    char *text = read_trace(&size);
    CHECK_EQ(count(text, "\"tid\":4294967294,"), 1);
    CHECK_EQ(count(text, "\"conn\":4294967294"), 1);
    free(text);
}

static void test_nesting(void)
{
    struct trace *t = open_trace(1 << 20);
    uint32_t lane = trace_lane_take(t);
    struct trace_event a = statement("a"), b = statement("b"), c = statement("c"), d = statement("d");
    size_t size;
    struct trace_span outer = trace_begin(t, lane, mono_now());
    struct trace_span inner = trace_begin(t, lane, mono_now());
    trace_end(t, &inner, &a); /* nests */
    struct trace_span crossing = trace_begin(t, lane, mono_now());
    trace_end(t, &outer, &b); /* ends before what began in it */
    trace_end(t, &crossing, &c);
    trace_end(t, &crossing, &c); /* written already */
    struct trace_span left = trace_begin(t, lane, mono_now());
    trace_lane_give(t, lane);
    CHECK_EQ(trace_lane_take(t), lane);
    trace_end(t, &left, &d); /* of the task that had the lane before */
    trace_close(t, 5);
    char *text = read_trace(&size);
    CHECK_EQ(count(text, "\"ph\":\"X\""), 2);
    CHECK_EQ(count(text, "\"ph\":\"b\""), 2);
    CHECK_EQ(count(text, "\"ph\":\"e\""), 2);
    CHECK_EQ(count(text, "{\"name\":\"a\",\"cat\":\"postgres\",\"ph\":\"X\""), 1);
    CHECK_EQ(count(text, "{\"name\":\"b\",\"cat\":\"postgres\",\"ph\":\"b\",\"id\":1"), 1);
    CHECK_EQ(count(text, "\"status\":5"), 1);
    CHECK(size > 3 && strcmp(text + size - 3, "\n]\n") == 0);
    free(text);
}

/* Also when more spans end than can wait for the thread, and some have failed. */
static void test_all(void)
{
    struct trace *t = open_trace(16 << 20);
    uint32_t lane = trace_lane_take(t);
    struct trace_event e = statement("select 1");
    enum { EVENTS = 20000 };
    size_t size;
    for (int i = 0; i < EVENTS; i++) {
        struct trace_span span = trace_begin(t, lane, mono_now());
        e.rows = (uint64_t)i;
        e.has_rows = true;
        e.kind = i % 7000 == 6999 ? "query" : NULL;
        trace_end(t, &span, &e);
    }
    trace_close(t, 0);
    char *text = read_trace(&size);
    CHECK_EQ(count(text, "\"ph\":\"X\""), EVENTS);
    CHECK_EQ(count(text, "\"cat\":\"error\""), 2);
    CHECK_EQ(count(text, "\"calls\":20000,\"errors\":2,"), 1);
    const char *at = text;
    for (int i = 0; i < EVENTS && at; i++) { /* in their order */
        char rows[40];
        snprintf(rows, sizeof rows, "\"rows\":%d%s", i, i % 7000 == 6999 ? "," : "}");
        at = strstr(at, rows);
    }
    CHECK(at != NULL);
    free(text);
}

/* Called as in a signal handler: ended spans are in the file. */
static void test_rescue(void)
{
    struct trace *t = open_trace(1 << 20);
    uint32_t lane = trace_lane_take(t);
    struct trace_event e = statement("select 1");
    size_t size;
    for (int i = 0; i < 100; i++) {
        struct trace_span span = trace_begin(t, lane, mono_now());
        trace_end(t, &span, &e);
    }
    trace_rescue(t);
    char *text = read_trace(&size);
    CHECK_EQ(count(text, "\"ph\":\"X\""), 100);
    CHECK(size > 2 && strcmp(text + size - 2, ",\n") == 0);
    free(text);
    trace_close(t, 0);
}

static void test_limit(void)
{
    struct prng r = prng_new(check_seed("trace"));
    uint64_t limit = (64 + prng_below(&r, 200)) * 1024;
    struct trace *t = open_trace(limit);
    uint32_t lane = trace_lane_take(t);
    size_t size;
    char sql[3000];
    uint64_t calls = 0;
    for (int i = 0; i < 8000; i++) { /* more texts than the table holds */
        int n = snprintf(sql, sizeof sql, "select %d -- ", i % 6000);
        size_t blanks = prng_below(&r, 40) == 0 ? prng_below(&r, 2900) : 0;
        memset(sql + n, '<', blanks); /* six bytes each in the file */
        sql[(size_t)n + blanks] = '\0';
        struct trace_event e = statement(sql);
        e.kind = prng_one_in(&r, 9) ? "query" : NULL;
        e.code = "22012";
        struct trace_span span =
            trace_begin(t, lane, mono_now() - prng_below(&r, 1000) * prng_below(&r, 5000));
        trace_end(t, &span, &e);
        calls++;
    }
    trace_close(t, 0);
    char *text = read_trace(&size);
    CHECK(size <= limit);
    CHECK(size > limit / 4);
    CHECK(count(text, "least_us\":") > 2);
    uint64_t told = 0;
    for (char *at = text; (at = strstr(at, "\"calls\":")) != NULL; at++)
        told += strtoull(at + 8, NULL, 10);
    CHECK_EQ(told, calls);
    CHECK_EQ(count(text, "\"sql\":\"(others)\""), 1);
    free(text);
}

static void test_texts(void)
{
    static const struct {
        const char *text, *json;
    } cases[] = {{"a\"b\\", "a\\\"b\\\\"},         {"\n\t\x1b\x7f", "\\u000a\\u0009\\u001b\\u007f"},
                 {"</script>", "\\u003c/script>"}, {"\xff\xc3", "\\ufffd\\ufffd"},
                 {"\xe2\x80\xae", "\\u202e"},      {"\xc3\xa4", "\xc3\xa4"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf out = {0};
        CHECK(line_json(&out, cases[i].text, strlen(cases[i].text)));
        CHECK_STR(out.data, cases[i].json);
        buf_free(&out);
    }
    static const uint64_t numbers[] = {0, 9, 10, 99, 100, 101, 12345, 1000000, UINT64_MAX};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char got[24], want[24];
        *line_number(got, numbers[i]) = '\0';
        snprintf(want, sizeof want, "%" PRIu64, numbers[i]);
        CHECK_STR(got, want);
    }
}

static void test_percentile(void)
{
    struct trace *t = open_trace(1 << 20);
    uint32_t lane = trace_lane_take(t);
    size_t size;
    struct trace_event e = statement("select 1");
    for (int i = 1; i <= 100; i++) {
        struct trace_span span = trace_begin(t, lane, NS_PER_S);
        e.until = NS_PER_S + (uint64_t)i * NS_PER_MS;
        trace_end(t, &span, &e);
    }
    trace_close(t, 0);
    char *text = read_trace(&size);
    const char *at = strstr(text, "\"max_us\":100000,\"p95_us\":");
    if (CHECK(at != NULL)) {
        uint64_t us = strtoull(at + 25, NULL, 10);
        CHECK(us >= 95000 && us <= 100000);
    }
    free(text);
}

static void test_open(void)
{
    struct trace_settings s = {
        .path = folder, .limit = 1 << 20, .version = "", .script = "", .tell = no_failure};
    struct stat st;
    CHECK(trace_open(&s) == NULL && errno == EISDIR);
    s.path = "/nowhere/a.json";
    CHECK(trace_open(&s) == NULL && errno == ENOENT);
    s.path = "/dev/full";
    CHECK(trace_open(&s) == NULL && errno == ENOSPC);
    chmod(path, 0644);
    trace_close(open_trace(1 << 20), 0);
    CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600);
}

int main(void)
{
    memcpy(folder, path, sizeof path - sizeof "/a.json");
    if (!mkdtemp(folder))
        return 1;
    memcpy(path, folder, strlen(folder));
    TEST("tasks take the lowest lane that is free", test_lanes);
    TEST("a negative process number is written as an integer", test_connections);
    TEST("a nested span is one event, an overlapping one is two", test_nesting);
    TEST("each event is written, in order", test_all);
    TEST("ended spans are written before a signal ends the process", test_rescue);
    TEST("the file keeps its size limit, and the counts are right", test_limit);
    TEST("texts are escaped, numbers are written", test_texts);
    TEST("the 95th percentile is that of the durations, or a little more", test_percentile);
    TEST("a file that cannot be written is refused, one that is there is replaced", test_open);
    unlink(path);
    rmdir(folder);
    return check_end("trace");
}
