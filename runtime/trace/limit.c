/* What is written: failed writes, and the size limit. */
#include "trace/impl.h"

#include "base/deadline.h"
#include "trace/line.h"

#include <stdio.h>
#include <string.h>

enum {
    STEPS = 16,       /* the room is filled in steps; each one in the second half leaves out more events */
    TOTALS_SHARE = 4, /* this part of the limit, but at most TOTALS_MOST, is for the counts */
    TOTALS_MOST = 4 << 20,
    LEAST_SIZE = 200 /* bytes of the line that says what is left out */
};

void trace_tell_failure(struct trace *t, int reason)
{
    char text[600];
    if (!reason)
        return;
    snprintf(text, sizeof text,
             "--trace: cannot write %.400s: %s; the trace ends there, and the program goes on", t->s.path,
             strerror(reason));
    t->s.tell(t->s.data, text);
}

/* The limit is at least 64 KiB. */
uint64_t trace_totals_room(const struct trace *t)
{
    uint64_t room = t->s.limit / TOTALS_SHARE;
    return room < TOTALS_MOST ? room : TOTALS_MOST;
}

static unsigned power_of(uint64_t ns)
{
    uint64_t us = ns / 1000;
    return us == 0 ? 0 : 64 - (unsigned)__builtin_clzll(us);
}

/* The median duration of the events written so far, as a power of two of us. */
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

static void tell_least(struct trace *t, uint64_t time)
{
    char *at = trace_file_begin(t->file, LEAST_SIZE);
    if (!at)
        return;
    at = line_lit(
        at, "{\"name\":\"shorter events are left out\",\"cat\":\"trace\",\"ph\":\"i\",\"s\":\"g\",\"pid\":1,"
            "\"tid\":0,\"ts\":");
    at = line_number(at, trace_time(t, time));
    at = line_lit(at, ",\"args\":{\"least_us\":");
    at = line_number(at, t->least / 1000);
    trace_file_end(t->file, line_lit(at, "}},\n"));
}

bool trace_has_room(const struct trace *t, size_t size)
{
    return trace_file_size(t->file) + size <= t->room;
}

/* As the file fills, only longer and longer events are written. */
static void look_at_limit(struct trace *t, uint64_t time)
{
    uint64_t size = trace_file_size(t->file);
    if (size < t->room / STEPS * (t->step + 1))
        return;
    t->step = (unsigned)(size / (t->room / STEPS));
    if (t->step < STEPS / 2 || !trace_has_room(t, LEAST_SIZE))
        return;
    t->least = t->least ? t->least * 2 : usual_duration(t);
    tell_least(t, time);
}

bool trace_is_wanted(struct trace *t, uint64_t ns, uint64_t until, size_t size)
{
    look_at_limit(t, until);
    if (ns >= t->least && trace_has_room(t, size))
        return true;
    t->left_out++;
    return false;
}

void trace_note_written(struct trace *t, uint64_t ns)
{
    t->written++;
    t->count[power_of(ns)]++;
}
