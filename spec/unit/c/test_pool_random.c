/*
 * A million random operations on pools of random shapes, against a model that knows nothing of how the pool
 * works: the order of the waiters, what each connection is doing, which ones must not be used again.
 * After every operation the pool must agree with it, and keep the rules of pool.h.
 *
 * Operations answer at once or later, fail, and finish in any order; `settled` acquires, releases and cancels
 * in turn. Waiters are freed as soon as they are settled, so that a sanitizer sees any later use of them.
 */
#include "pool_model.h"

enum { EPOCH = 4000 };

static uint64_t operations;

/* ---- users ---- */

static void act_inside(void);

static void on_settled(struct pool_waiter *w)
{
    struct asker *a = (struct asker *)w;
    CHECK(!a->inside);
    CHECK(!w->queued);
    model_check_first(a);
    model_forget_asker(a);
    uint64_t waited = m.now - w->since;
    m.want.wait_count++;
    m.want.wait_ns += waited;
    if (waited > m.want.wait_max_ns)
        m.want.wait_max_ns = waited;
    if (w->result == POOL_GRANTED) {
        model_granted(w->slot, w->owner);
    } else if (w->result == POOL_FAILED) {
        CHECK_STR(w->error.message, "refused");
        error_clear(&w->error);
    } else {
        CHECK_EQ(w->result, POOL_CLOSED);
        CHECK(m.closed);
    }
    memset(a, 0xee, sizeof *a);
    free(a);
    act_inside();
}

static const void *some_owner(void)
{
    int i = (int)prng_below(&m.random, OWNERS + 2);
    /* An owner does one thing at a time. */
    return i < OWNERS && m.owner_waits[i] == 0 ? owners + i : NULL;
}

/* The answer that the rules require before the pool does anything, or POOL_WAITING. */
static enum pool_settle refusal(const void *owner, bool nowait)
{
    if (m.closed)
        return POOL_CLOSED;
    if (nowait && (uint32_t)(m.waiters + model_count(LEASED)) >= m.limit)
        return POOL_FULL;
    return model_deadlock(owner) ? POOL_DEADLOCK : POOL_WAITING;
}

/* No idle connection was used more recently than the granted one. */
static void check_lifo(const struct conn *given, uint64_t since)
{
    for (int i = 0; i < m.conns; i++)
        if (m.conn[i]->doing == UNUSED && m.conn[i] != given)
            CHECK(m.conn[i]->since <= since);
}

static uint64_t latest_unused(void)
{
    uint64_t latest = 0;
    for (int i = 0; i < m.conns; i++)
        if (m.conn[i]->doing == UNUSED && m.conn[i]->since > latest)
            latest = m.conn[i]->since;
    return latest;
}

static void do_acquire(void)
{
    if (m.waiters == MAX_WAITERS || m.conns > MAX_SLOTS - 8 || (m.limit > 64 && m.waiters + m.conns > 64))
        return;
    struct asker *a = malloc(sizeof *a);
    if (!a)
        abort();
    memset(a, 0xdd, sizeof *a);
    a->w.owner = some_owner();
    a->w.nowait = chance(4);
    a->w.settled = on_settled;
    enum pool_settle refused = refusal(a->w.owner, a->w.nowait);
    bool outermost = m.depth == 1;
    uint64_t latest = latest_unused();
    bool queue_empty = m.waiters == 0;
    a->inside = true;
    m.queue[m.waiters++] = a;
    if (a->w.owner)
        m.owner_waits[(const char *)a->w.owner - owners]++;
    uint64_t wait_before = m.want.wait_count;
    enum pool_settle answer = pool_acquire(m.pool, &a->w, m.now);
    a->inside = false;
    CHECK_EQ(a->w.result, answer);
    if (refused != POOL_WAITING)
        CHECK_EQ(answer, refused);
    if (answer == POOL_WAITING) {
        CHECK(a->w.queued);
        return;
    }
    CHECK(answer == refused || answer == POOL_GRANTED || answer == POOL_FAILED ||
          (answer == POOL_CLOSED && m.closed));
    if (answer == POOL_GRANTED || answer == POOL_FAILED) {
        CHECK(m.queue[0] == a);
        CHECK(queue_empty || wait_before != m.want.wait_count);
    }
    model_forget_asker(a);
    if (answer == POOL_FAILED)
        error_clear(&a->w.error);
    if (answer == POOL_GRANTED) {
        struct conn *c = model_conn(a->w.slot);
        uint64_t since = c->since;
        model_granted(a->w.slot, a->w.owner);
        if (outermost && latest && since == latest)
            check_lifo(c, since);
    }
    free(a);
}

/* A random leased connection; the user loses it. */
static struct conn *take_lease(void)
{
    struct conn *c = model_pick(LEASED);
    if (c) {
        c->doing = UNUSED;
        c->looked = false;
        c->owner = NULL;
        c->since = m.now;
    }
    return c;
}

static void do_release(void)
{
    struct conn *c = take_lease();
    if (c)
        pool_release(m.pool, c->slot, m.now);
}

static void do_discard(void)
{
    struct conn *c = take_lease();
    if (!c)
        return;
    c->doomed = true;
    pool_discard(m.pool, c->slot, m.now);
}

static void do_detach(void)
{
    struct conn *c = take_lease();
    if (!c)
        return;
    struct pool_slot *s = c->slot;
    m.want.detached++;
    for (int i = 0; i < m.conns; i++)
        if (m.conn[i] == c)
            m.conn[i] = m.conn[--m.conns];
    CHECK(pool_detach(m.pool, s, m.now) == c);
    free(c);
}

static void do_withdraw(bool timed_out)
{
    int i = m.waiters ? (int)prng_below(&m.random, (uint32_t)m.waiters) : 0;
    if (!m.waiters || m.queue[i]->inside)
        return;
    struct asker *a = m.queue[i];
    model_forget_asker(a);
    m.want.timeouts += timed_out;
    m.want.wait_count++;
    m.want.wait_ns += m.now - a->w.since;
    if (m.now - a->w.since > m.want.wait_max_ns)
        m.want.wait_max_ns = m.now - a->w.since;
    CHECK(pool_cancel(m.pool, &a->w, timed_out, m.now));
    CHECK(!pool_cancel(m.pool, &a->w, timed_out, m.now));
    free(a);
}

static void do_die(void)
{
    struct conn *c = m.conns ? m.conn[prng_below(&m.random, (uint32_t)m.conns)] : NULL;
    if (!c || c->doing == OPENING || c->doing == CLOSING)
        return;
    c->doomed = true;
    pool_died(c->slot, m.now);
}

static void do_mark(void)
{
    struct conn *c = model_pick(LEASED);
    if (c)
        c->doomed = c->slot->invalid = true;
}

static void do_news(void)
{
    enum doing kinds[] = {OPENING, PINGING, RESETTING, CLOSING};
    struct conn *c = model_pick(kinds[prng_below(&m.random, 4)]);
    if (!c)
        return;
    if (c->doing == OPENING && chance(5))
        model_open_failed(c);
    else if (c->doing == OPENING)
        model_opened(c);
    else if (c->doing == PINGING)
        model_pinged(c, !chance(6));
    else if (c->doing == RESETTING)
        model_reset_done(c, !chance(6));
    else
        model_closed(c);
}

static void do_retire(void)
{
    model_new_generation();
    if (chance(2))
        pool_invalidate(m.pool, m.now);
    else
        pool_dispose(m.pool, m.now);
}

static void do_close(void)
{
    m.closed = true;
    pool_close(m.pool, m.now);
}

static void act(void)
{
    uint32_t what = prng_below(&m.random, 1000);
    m.depth++;
    if (what < 340)
        do_acquire();
    else if (what < 560)
        do_release();
    else if (what < 580)
        do_discard();
    else if (what < 590)
        do_detach();
    else if (what < 640)
        do_withdraw(false);
    else if (what < 690)
        do_withdraw(true);
    else if (what < 700)
        do_die();
    else if (what < 705)
        do_mark();
    else if (what < 708)
        do_retire();
    else
        do_news();
    m.depth--;
}

static void act_inside(void)
{
    if (m.depth < 4 && m.depth && chance(3))
        act();
}

/* ---- running ---- */

static void begin_epoch(void)
{
    struct prng random = m.random;
    uint32_t size = prng_below(&random, 8) ? prng_below(&random, 5) + 1 : 0;
    int32_t overflow = prng_below(&random, 8) ? (int32_t)prng_below(&random, 4) : -1;
    uint64_t recycle = prng_below(&random, 3) ? prng_below(&random, 5000) + 1 : 0;
    struct pool_config config = {.size = size,
                                 .overflow = overflow,
                                 .recycle = recycle,
                                 .seed = prng_next(&random),
                                 .ops = &model_ops};
    static const int sync[] = {0, 1, 2, 8};
    memset(&m, 0, sizeof m);
    m.random = random;
    m.now = 1000000;
    m.recycle = recycle;
    m.keep = size ? size : UINT32_MAX;
    m.limit = size && overflow >= 0 ? size + (uint32_t)overflow : UINT32_MAX;
    m.sync = sync[prng_below(&m.random, 4)];
    m.free_when_drained = chance(2);
    m.pool = pool_new(&config);
    if (!m.pool)
        abort();
}

static void end_epoch(void)
{
    m.depth++;
    do_close();
    m.depth--;
    model_check();
    while (m.conns && !check_state.broken) {
        m.now++;
        act();
        model_check();
    }
    CHECK_EQ(m.drained, 1);
    CHECK_EQ(m.waiters, 0);
    CHECK_EQ(m.conns, 0);
    if (m.pool)
        pool_free(m.pool);
}

static void test_random(void)
{
    uint64_t left = operations;
    while (left && !check_state.broken) {
        begin_epoch();
        for (int i = 0; i < EPOCH && left && !check_state.broken; i++, left--) {
            m.now += 1 + (chance(50) ? prng_below(&m.random, 3000) : prng_below(&m.random, 20));
            act();
            model_check();
            if (check_state.broken)
                printf("after operation %" PRIu64 " of %" PRIu64 "\n", operations - left + 1, operations);
        }
        if (!check_state.broken)
            end_epoch();
    }
}

int main(void)
{
    operations = check_ops(1000000);
    m.random = prng_new(check_seed("pool random"));
    TEST("a million random operations keep every rule", test_random);
    return check_end("pool random");
}
