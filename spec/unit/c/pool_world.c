#include "pool_world.h"
#include "check.h"

static struct world *world_of(const struct pool_slot *s)
{
    return pool_data(s->pool);
}

static void put(struct world_queue *q, struct pool_slot *s)
{
    if (q->n == WORLD_MAX)
        abort();
    q->slot[q->n++] = s;
}

static bool drop(struct world_queue *q, const struct pool_slot *s)
{
    for (int i = 0; i < q->n; i++) {
        if (q->slot[i] != s)
            continue;
        memmove(q->slot + i, q->slot + i + 1, (size_t)(--q->n - i) * sizeof(q->slot[0]));
        return true;
    }
    return false;
}

static struct pool_slot *oldest(struct world_queue *q)
{
    struct pool_slot *s = q->n ? q->slot[0] : NULL;
    if (!CHECK(s != NULL))
        abort(); /* the test cannot go on: its operation was never started */
    drop(q, s);
    return s;
}

struct world_conn *world_conn(struct pool_slot *s)
{
    return s->conn;
}

/* ---- operations ---- */

static void bring_opened(struct world *w, struct pool_slot *s)
{
    struct world_conn *c = calloc(1, sizeof *c);
    if (!c)
        abort();
    c->id = ++w->conns;
    put(&w->alive, s);
    pool_opened(s, c, w->now);
}

static void bring_failed(struct world *w, struct pool_slot *s, const char *why)
{
    struct error e = {0};
    error_set(&e, ERROR_CONNECT, "%s", why);
    pool_open_failed(s, &e, w->now);
    CHECK(!error_is_set(&e));
}

static void op_open(struct pool_slot *s)
{
    struct world *w = world_of(s);
    CHECK_EQ(s->state, SLOT_OPENING);
    if (!w->sync)
        put(&w->opening, s);
    else if (w->fail_opens && w->fail_opens--)
        bring_failed(w, s, "refused");
    else
        bring_opened(w, s);
}

static void bring_closed(struct world *w, struct pool_slot *s)
{
    CHECK(drop(&w->alive, s));
    free(s->conn);
    s->conn = NULL;
    pool_closed(s, w->now);
}

static void op_close(struct pool_slot *s)
{
    struct world *w = world_of(s);
    CHECK_EQ(s->state, SLOT_CLOSING);
    if (w->sync)
        bring_closed(w, s);
    else
        put(&w->closing, s);
}

static enum pool_check op_check(struct pool_slot *s, uint64_t idle_ns)
{
    world_of(s)->checks++;
    world_conn(s)->idle_ns = idle_ns;
    return world_conn(s)->check;
}

static void op_ping(struct pool_slot *s)
{
    struct world *w = world_of(s);
    CHECK_EQ(s->state, SLOT_PINGING);
    w->pings++;
    if (w->sync)
        pool_pinged(s, !world_conn(s)->ping_fails, w->now);
    else
        put(&w->pinging, s);
}

static enum pool_verdict op_judge(struct pool_slot *s)
{
    world_of(s)->judges++;
    return world_conn(s)->verdict;
}

static void op_reset(struct pool_slot *s)
{
    struct world *w = world_of(s);
    CHECK_EQ(s->state, SLOT_RESETTING);
    w->resets++;
    if (w->sync)
        pool_reset_done(s, !world_conn(s)->reset_fails, w->now);
    else
        put(&w->resetting, s);
}

static void op_drained(struct pool *p)
{
    struct world *w = pool_data(p);
    w->drained++;
}

static const struct pool_ops ops = {
    .open = op_open,
    .close = op_close,
    .check = op_check,
    .ping = op_ping,
    .judge = op_judge,
    .reset = op_reset,
    .drained = op_drained,
};

/* ---- opening and closing the world ---- */

void world_open(struct world *w, uint32_t size, int32_t overflow, uint64_t recycle)
{
    *w = (struct world){.now = 1000 * (uint64_t)S};
    struct pool_config config = {
        .size = size, .overflow = overflow, .recycle = recycle * S, .seed = 1, .ops = &ops, .data = w};
    w->pool = pool_new(&config);
    if (!w->pool)
        abort();
}

static void discard_leased(struct world *w)
{
    for (int i = 0; i < w->alive.n;)
        if (w->alive.slot[i]->state == SLOT_LEASED)
            pool_discard(w->pool, w->alive.slot[i], w->now), i = 0;
        else
            i++;
}

void world_end(struct world *w)
{
    w->sync = true;
    pool_close(w->pool, w->now);
    while (w->opening.n)
        world_open_failed(w, "the test is over");
    while (w->pinging.n)
        world_pinged(w, true);
    while (w->resetting.n)
        world_reset_done(w, true);
    world_all_closed(w);
    discard_leased(w);
    CHECK_EQ(w->alive.n, 0);
    CHECK_EQ(world_stats(w).open, 0);
    CHECK_EQ(w->drained, 1);
    pool_free(w->pool);
}

/* ---- users ---- */

static void on_settled(struct pool_waiter *pw)
{
    struct world_waiter *x = (struct world_waiter *)pw;
    x->calls++;
    if (x->world->settled < WORLD_MAX)
        x->world->order[x->world->settled] = (int)(x->w.owner ? *(const int *)x->w.owner : 0);
    x->world->settled++;
    if (x->then)
        x->then(x);
}

static enum pool_settle acquire(struct world *w, struct world_waiter *x, const void *owner, bool nowait)
{
    void (*then)(struct world_waiter *) = x->then;
    *x = (struct world_waiter){.world = w, .then = then};
    x->w.owner = owner;
    x->w.nowait = nowait;
    x->w.settled = on_settled;
    enum pool_settle answer = pool_acquire(w->pool, &x->w, w->now);
    CHECK_EQ(answer, x->w.result);
    CHECK_EQ(x->calls, 0);
    return answer;
}

enum pool_settle world_acquire(struct world *w, struct world_waiter *x, const void *owner)
{
    return acquire(w, x, owner, false);
}

enum pool_settle world_acquire_now(struct world *w, struct world_waiter *x, const void *owner)
{
    return acquire(w, x, owner, true);
}

struct pool_slot *world_take(struct world *w, const void *owner)
{
    struct world_waiter x = {0};
    int settled = w->settled;
    if (world_acquire(w, &x, owner) == POOL_WAITING)
        world_opened(w);
    w->settled = settled; /* not one of the test's own waiters */
    if (!CHECK_EQ(x.w.result, POOL_GRANTED))
        abort();
    return x.w.slot;
}

void world_release(struct world *w, struct pool_slot *s)
{
    pool_release(w->pool, s, w->now);
}

/* ---- results of operations ---- */

void world_opened(struct world *w)
{
    bring_opened(w, oldest(&w->opening));
}

void world_open_failed(struct world *w, const char *why)
{
    bring_failed(w, oldest(&w->opening), why);
}

void world_pinged(struct world *w, bool alive)
{
    pool_pinged(oldest(&w->pinging), alive, w->now);
}

void world_reset_done(struct world *w, bool ok)
{
    pool_reset_done(oldest(&w->resetting), ok, w->now);
}

void world_closed(struct world *w)
{
    bring_closed(w, oldest(&w->closing));
}

void world_all_closed(struct world *w)
{
    while (w->closing.n)
        world_closed(w);
}

struct pool_stats world_stats(const struct world *w)
{
    struct pool_stats s;
    pool_stats(w->pool, &s);
    return s;
}
