#include "bind/pg/statement_trace.h"

#include "base/deadline.h"
#include "bind/pg/mux.h"
#include "bind/pg/traced.h"

#include <string.h>

/* A shorter checkout took an idle connection and is not recorded as a wait. */
#define SHORT_WAIT_NS (20 * UINT64_C(1000))

static const char waits[] = "wait for a connection";

void pg_trace_begin(struct pg_statement *st)
{
    st->span = task_span(st->engine->rt->sched, st->began);
}

/* Records the wait for a connection; `e`: why none came. */
static void tell_wait(lua_State *L, struct pg_statement *st, const struct error *e)
{
    struct script_place place;
    struct trace_event event = pg_traced_event(L, st->engine->rt, TRACE_POOL, &place);
    event.name = waits;
    event.blocking = st->engine->sync;
    if (e)
        pg_traced_failed(&event, e);
    trace_end(st->engine->rt->trace, &st->span, &event);
}

void pg_trace_waited(lua_State *L, struct pg_statement *st, bool parked)
{
    bool at_once = !parked && !st->engine->sync && st->stage != STAGE_SHARED;
    if (at_once && !st->acquire_only)
        return;
    if (parked || mono_now() - st->span.start >= SHORT_WAIT_NS)
        tell_wait(L, st, NULL);
    else if (!st->acquire_only)
        return;
    trace_drop(st->engine->rt->trace, &st->span);
    if (!st->acquire_only)
        st->span = task_span(st->engine->rt->sched, mono_now());
}

/* The connection on which the statement ran. (Outside a lease it may have been returned.) */
static struct pg_link *link_of(const struct pg_statement *st)
{
    return st->lease ? st->lease->link : st->link;
}

/* Records how long a shared statement waited until a connection was open and had room; `by`: its event. */
static void tell_queued(struct pg_statement *st, const struct trace_event *by)
{
    uint64_t sent = st->shared->sent_at;
    struct trace *t = st->engine->rt->trace;
    if (sent >= st->span.start + SHORT_WAIT_NS) {
        struct trace_event event = {.cat = TRACE_POOL,
                                    .name = waits,
                                    .file = by->file,
                                    .line = by->line,
                                    .task = by->task,
                                    .until = sent};
        trace_part(t, &st->span, &event);
    }
    if (sent)
        st->span.start = sent;
}

static bool begins(const char *sql, const char *word)
{
    return strncmp(sql, word, strlen(word)) == 0;
}

/* The names of dbrun's savepoints and cursors have a number, which would make each text a different one: the
 * text is recorded without the name. */
static const char *without_name(const char *sql, size_t *len)
{
    static const char *const words[] = {"SAVEPOINT", "RELEASE SAVEPOINT", "ROLLBACK TO SAVEPOINT", "CLOSE"};
    static const char declare[] = "DECLARE dbrun_cursor_", cursor[] = "CURSOR FOR ";
    const char *at;
    if (!*sql || !strchr("CDFRS", *sql))
        return sql;
    for (int i = 0; i < 4; i++) {
        size_t n = strlen(words[i]);
        if (begins(sql, words[i]) && begins(sql + n, " dbrun_")) {
            *len = n;
            return sql;
        }
    }
    if (begins(sql, "FETCH FORWARD ") && (at = strstr(sql, " FROM dbrun_cursor_")))
        *len = (size_t)(at - sql);
    if (!begins(sql, declare) || !(at = strstr(sql, cursor)))
        return sql;
    *len -= (size_t)(at - sql);
    return at;
}

static void tell(lua_State *L, struct pg_statement *st, const struct error *e)
{
    struct runtime *rt = st->engine->rt;
    struct script_place place;
    struct pg_link *link = link_of(st);
    bool shared = st->stage == STAGE_SHARED && st->shared;
    struct trace_event event = pg_traced_event(L, rt, shared ? TRACE_SHARED : TRACE_POSTGRES, &place);
    if (st->describe_only || st->stale_only)
        event.name = "describe";
    else if ((event.sql = lua_tolstring(L, 2, &event.len)))
        event.sql = without_name(event.sql, &event.len);
    if (shared)
        tell_queued(st, &event);
    uint64_t start = st->span.start;
    event.conn = shared ? st->shared->pid : link ? link->pid : 0;
    event.blocking = st->engine->sync;
    event.until = trace_resumed(rt->trace, &st->span);
    if (e)
        pg_traced_failed(&event, e);
    else if (event.sql)
        pg_traced_rows(&event, st->result);
    if (pg_statement_is_grown(st) && event.has_rows)
        event.rows = (uint64_t)st->growing.rows;
    trace_end(rt->trace, &st->span, &event);
    if (link)
        pg_traced_settled(link, start, &event, st->result);
}

void pg_trace_statement(lua_State *L, struct pg_statement *st)
{
    const struct error *e = error_is_set(&st->error) ? &st->error : NULL;
    if (!st->span.serial)
        return;
    bool unsent = e && e->outcome == OUTCOME_NOT_SENT;
    if (unsent && st->lease) /* refused here */
        trace_drop(st->engine->rt->trace, &st->span);
    else if (unsent || st->acquire_only)
        tell_wait(L, st, e);
    else
        tell(L, st, e);
}

void pg_trace_cancelled(lua_State *L, struct pg_statement *st, enum error_outcome outcome)
{
    struct error e = {.kind = ERROR_CANCELLED, .outcome = outcome};
    if (!st->span.serial)
        return;
    if (st->acquire_only || outcome == OUTCOME_NOT_SENT)
        tell_wait(L, st, &e);
    else
        tell(L, st, &e);
}
