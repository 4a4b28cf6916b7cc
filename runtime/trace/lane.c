/* Lanes, and the spans that have begun in them. */
#include "trace/impl.h"

#include "base/deadline.h"
#include "trace/line.h"

#include <stdlib.h>
#include <string.h>

enum { NAME_SIZE = 150 };

void trace_name_thread(struct trace *t, unsigned pid, uint64_t tid, const char *what)
{
    trace_file_lock(t->file);
    char *at = trace_has_room(t, NAME_SIZE) ? trace_file_begin(t->file, NAME_SIZE) : NULL;
    if (at) {
        at = line_lit(at, "{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":");
        at = line_number(at, pid);
        at = line_lit(at, ",\"tid\":");
        at = line_number(at, tid);
        at = line_lit(at, ",\"args\":{\"name\":\"");
        at = line_word(at, what);
        at = line_number(at, tid);
        trace_file_end(t->file, line_lit(at, "\"}},\n"));
    }
    trace_file_unlock(t->file);
}

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
        trace_name_thread(t, TRACE_TASKS, t->lowest, "lane ");
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

/* True: all spans that began after it in the lane have ended, so it nests. */
bool trace_pop(struct trace *t, const struct trace_span *span)
{
    struct lane *lane = &t->lanes[span->lane];
    if (lane->n > 0 && lane->open[lane->n - 1] == span->serial) {
        lane->n--;
        return true;
    }
    for (uint32_t i = lane->n; i > 0; i--) {
        if (lane->open[i - 1] != span->serial)
            continue;
        memmove(lane->open + i - 1, lane->open + i, (lane->n - i) * sizeof *lane->open);
        lane->n--;
        break;
    }
    return false;
}

void trace_drop(struct trace *t, struct trace_span *span)
{
    if (span->serial)
        trace_pop(t, span);
    span->serial = 0;
}

void trace_lanes_free(struct trace *t)
{
    for (uint32_t i = 0; i < t->nlanes; i++)
        free(t->lanes[i].open);
    free(t->lanes);
}
