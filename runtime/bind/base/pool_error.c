#include "bind/base/pool_error.h"

#include "base/buf.h"
#include "base/deadline.h"

#include <stdio.h>
#include <stdlib.h>

enum { HOLDERS_SHOWN = 10 };

/* ---- the holders ---- */

struct holders {
    const struct pool_words *words;
    struct buf text;
    unsigned n;
    uint64_t now;
};

static void add_holder(const struct pool_slot *slot, void *data)
{
    struct holders *h = data;
    struct pool_holder holder = {.how = "at", .who = "?", .statement = ""};
    if (++h->n > HOLDERS_SHOWN)
        return;
    h->words->holder(slot, &holder);
    if (h->n == 1)
        buf_addf(&h->text, "held %s ", holder.how);
    else
        buf_adds(&h->text, "\n         ");
    double held = (double)(h->now - slot->leased_at) / (double)NS_PER_S;
    buf_addf(&h->text, "%s for %.1f s%s%s", holder.who, held, holder.statement[0] ? ", last statement: " : "",
             holder.statement);
}

static void set_holders(const struct pool *p, const struct pool_words *w, struct error *e)
{
    struct holders h = {.words = w, .now = mono_now()};
    pool_each_leased(p, add_holder, &h);
    if (h.n > HOLDERS_SHOWN)
        buf_addf(&h.text, "\n         and %u more", h.n - HOLDERS_SHOWN);
    if (h.n > 0 && !h.text.oom)
        error_set_field(e, ERROR_DETAIL, h.text.data);
    buf_free(&h.text);
}

/* ---- the message ---- */

static void set_message(enum pool_settle why, const struct pool_stats *st, const struct pool_words *w,
                        struct error *e)
{
    bool limited = st->size > 0 && st->overflow != UINT32_MAX;
    char total[32] = "";
    if (limited)
        snprintf(total, sizeof total, " of %u", st->size + st->overflow);
    switch (why) {
    case POOL_CLOSED:
        error_set(e, ERROR_POOL, "%s%s", w->prefix, w->closed);
        break;
    case POOL_DEADLOCK:
        error_set(e, ERROR_POOL,
                  "%sdeadlock: every connection of the pool (%u) is held by a task that waits for another "
                  "connection",
                  w->prefix, st->leased);
        break;
    case POOL_FULL:
        error_set(
            e, ERROR_POOL,
            "%stoo many connections: all %u connections are in use, and this call does not wait for one",
            w->prefix, st->leased);
        break;
    default:
        error_set(e, ERROR_POOL,
                  "%sno connection became free within %g s (%u%s in use, %u being opened, %u waiting)",
                  w->prefix, w->waits, st->leased, total, st->opening, st->waiting);
    }
}

/* ---- the hint ---- */

static void set_hint(enum pool_settle why, const struct pool_stats *st, const struct pool_words *w,
                     struct error *e)
{
    char *hint = NULL;
    int n;
    if (why == POOL_CLOSED)
        return;
    if (why == POOL_DEADLOCK)
        n = asprintf(&hint, "Do not take a second connection in a task that holds one, or raise %s.",
                     w->size);
    else if (st->leased == 0 && st->opening > 0)
        n = asprintf(
            &hint,
            "No task holds a connection, but opening one takes longer than that: check that the server "
            "answers quickly, or raise %s.",
            w->timeout);
    else
        n = asprintf(&hint, "The holders above keep the connections: release them earlier, or raise %s%s.",
                     w->size, why == POOL_FULL && w->full ? w->full : "");
    if (n < 0)
        return;
    error_set_field(e, ERROR_HINT, hint);
    free(hint);
}

void pool_error(const struct pool *p, enum pool_settle why, const struct pool_words *w, struct error *e)
{
    struct pool_stats st;
    pool_stats(p, &st);
    set_message(why, &st, w, e);
    e->outcome = OUTCOME_NOT_SENT;
    e->retryable = why != POOL_CLOSED && why != POOL_DEADLOCK;
    if (why != POOL_CLOSED)
        set_holders(p, w, e);
    set_hint(why, &st, w, e);
}
