/* The texts of an engine's pool errors, and the holders of its connections. */
#include "bind/pg/pool_error.h"
#include "bind/base/pool_error.h"
#include "bind/pg/link.h"

static void holder(const struct pool_slot *slot, struct pool_holder *h)
{
    const struct pg_link *link = slot->conn;
    if (!script_place_text(&link->place, h->who, sizeof h->who))
        task_where(link->task, h->who, sizeof h->who);
    h->statement = link->statement;
}

void pg_engine_pool_error(struct pg_engine *e, enum pool_settle result, struct error *err)
{
    const struct pool_words words = {.prefix = "",
                                     .closed = "the engine has been closed",
                                     .size = e->sync ? "SYNC_POOL_SIZE" : "DB_POOL_SIZE or DB_MAX_OVERFLOW",
                                     .timeout = "DB_POOL_TIMEOUT",
                                     .waits = e->timeout,
                                     .holder = holder};
    pool_error(e->pool, result, &words, err);
}
