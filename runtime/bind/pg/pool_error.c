/* What a task is told that got no connection from its pool: why, who holds them, and what helps. */
#include "bind/pg/pool_error.h"
#include "base/deadline.h"
#include "bind/pg/link.h"

#include <string.h>

enum { HOLDERS_SHOWN = 10 };

struct holders {
    struct buf text;
    unsigned n;
};

static void add_holder(const struct pool_slot *slot, void *data)
{
    struct holders *h = data;
    const struct pg_link *link = slot->conn;
    char where[SCRIPT_WHERE] = "?";
    if (++h->n > HOLDERS_SHOWN)
        return;
    if (!script_place_text(&link->place, where, sizeof where))
        task_where(link->task, where, sizeof where);
    double held = (double)(mono_now() - slot->leased_at) / (double)NS_PER_S;
    buf_addf(&h->text, "%s%s for %.1f s%s%s", h->n > 1 ? "\n         " : "held at ", where, held,
             link->statement[0] ? ", last statement: " : "", link->statement);
}

static void set_message(const struct pg_engine *e, enum pool_settle result, const struct pool_stats *st,
                        struct error *err)
{
    if (result == POOL_CLOSED)
        error_set(err, ERROR_POOL, "the engine has been closed");
    else if (result == POOL_DEADLOCK)
        error_set(
            err, ERROR_POOL,
            "every connection of the pool (size %u, overflow %u) is held by a task that waits for another "
            "one: this could never end",
            st->size, st->overflow);
    else if (result == POOL_FULL)
        error_set(err, ERROR_POOL,
                  "all %u connections of the sync engine are in use, and nobody else can give one back",
                  st->size + st->overflow);
    else
        error_set(
            err, ERROR_POOL,
            "no connection became free within %g s (pool size %u, overflow %u: %u in use, %u being opened, "
            "%u waiting)",
            e->timeout, st->size, st->overflow, st->leased, st->opening, st->waiting);
}

static const char *hint_for(const struct pg_engine *e, enum pool_settle result, const struct pool_stats *st)
{
    if (result == POOL_CLOSED)
        return NULL;
    if (st->leased == 0 && st->opening > 0)
        return "Nobody holds a connection, but opening one takes longer than that: is the server slow to "
               "answer? Else raise DB_POOL_TIMEOUT.";
    if (e->sync)
        return "The lines above hold the connections: release them earlier, or raise SYNC_POOL_SIZE.";
    return "The lines above hold the connections: release them earlier, or raise DB_POOL_SIZE or "
           "DB_MAX_OVERFLOW.";
}

void pg_engine_pool_error(struct pg_engine *e, enum pool_settle result, struct error *err)
{
    struct pool_stats st;
    struct holders h = {{0}, 0};
    pool_stats(e->pool, &st);
    pool_each_leased(e->pool, add_holder, &h);
    set_message(e, result, &st, err);
    err->outcome = OUTCOME_NOT_SENT;
    err->retryable = result != POOL_CLOSED;
    if (h.n > HOLDERS_SHOWN)
        buf_addf(&h.text, "\n         and %u more", h.n - HOLDERS_SHOWN);
    if (h.n > 0 && !h.text.oom)
        error_set_field(err, ERROR_DETAIL, h.text.data);
    error_set_field(err, ERROR_HINT, hint_for(e, result, &st));
    buf_free(&h.text);
}
