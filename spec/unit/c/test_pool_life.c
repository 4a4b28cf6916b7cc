/* How connections and pools close: death, invalidation, closing; deadlock; the statistics. */
#include "check.h"
#include "pool_world.h"

static const int one = 1, two = 2, three = 3;

/* ---- death and retirement ---- */

static void test_died_idle(void)
{
    struct world w;
    world_open(&w, 2, 0, 0);
    struct pool_slot *a = world_take(&w, NULL);
    struct pool_slot *b = world_take(&w, NULL);
    world_release(&w, a);
    pool_died(a, w.now);
    CHECK_EQ(a->state, SLOT_CLOSING);
    world_closed(&w);
    pool_died(b, w.now);
    CHECK_EQ(b->state, SLOT_LEASED);
    world_release(&w, b);
    CHECK_EQ(b->state, SLOT_CLOSING);
    world_end(&w);
}

static void test_invalidate(void)
{
    struct world w;
    struct world_waiter opening = {0}, pinging = {0};
    world_open(&w, 4, 0, 0);
    struct pool_slot *leased = world_take(&w, NULL);
    struct pool_slot *idle = world_take(&w, NULL);
    struct pool_slot *pinged = world_take(&w, NULL);
    world_conn(pinged)->check = POOL_CHECK_PING;
    world_release(&w, pinged);
    CHECK_EQ(world_acquire(&w, &pinging, &one), POOL_WAITING);
    CHECK_EQ(world_acquire(&w, &opening, &two), POOL_WAITING);
    world_release(&w, idle); /* goes to the first waiter ... */
    CHECK(pinging.w.slot == idle);
    pool_cancel(w.pool, &opening.w, false, w.now);
    world_release(&w, idle);
    CHECK_EQ(world_stats(&w).idle, 1);
    pool_invalidate(w.pool, w.now);
    CHECK_EQ(world_stats(&w).idle, 0); /* idle: at once */
    CHECK_EQ(leased->state, SLOT_LEASED);
    world_opened(&w); /* begun before: closed when it is open */
    world_pinged(&w, true);
    CHECK_EQ(w.closing.n, 3);
    world_release(&w, leased);
    CHECK_EQ(w.closing.n, 4);
    world_all_closed(&w);
    CHECK_EQ(world_stats(&w).open, 0);
    CHECK_EQ(world_stats(&w).invalidated, 4);
    struct pool_slot *s = world_take(&w, NULL);
    world_release(&w, s);
    CHECK_EQ(world_stats(&w).idle, 1);
    world_end(&w);
}

static void test_invalidate_while_opening(void)
{
    struct world w;
    struct world_waiter x = {0};
    world_open(&w, 1, 0, 0);
    CHECK_EQ(world_acquire(&w, &x, NULL), POOL_WAITING);
    pool_invalidate(w.pool, w.now);
    world_opened(&w); /* connected to the server from before */
    CHECK_EQ(x.calls, 0);
    world_closed(&w);
    world_opened(&w);
    CHECK_EQ(world_conn(x.w.slot)->id, 2);
    world_end(&w);
}

static void test_dispose(void)
{
    struct world w;
    world_open(&w, 2, 0, 0);
    struct pool_slot *a = world_take(&w, NULL);
    struct pool_slot *b = world_take(&w, NULL);
    world_release(&w, a);
    pool_dispose(w.pool, w.now);
    CHECK_EQ(w.closing.n, 1);
    world_release(&w, b);
    CHECK_EQ(w.closing.n, 2);
    world_all_closed(&w);
    CHECK(!pool_is_closed(w.pool));
    CHECK(world_take(&w, NULL) != NULL); /* still usable */
    world_end(&w);
}

/* ---- closing ---- */

static void test_close(void)
{
    struct world w;
    struct world_waiter x = {0}, late = {0};
    world_open(&w, 2, 0, 0);
    struct pool_slot *a = world_take(&w, NULL);
    struct pool_slot *b = world_take(&w, NULL);
    CHECK_EQ(world_acquire(&w, &x, NULL), POOL_WAITING);
    pool_close(w.pool, w.now);
    CHECK_EQ(x.w.result, POOL_CLOSED);
    CHECK_EQ(x.calls, 1);
    CHECK_EQ(world_acquire(&w, &late, NULL), POOL_CLOSED);
    CHECK_EQ(w.closing.n, 0); /* in use: on return */
    world_release(&w, a);
    world_closed(&w);
    CHECK_EQ(w.drained, 0);
    world_release(&w, b);
    CHECK_EQ(w.judges, 0);
    world_closed(&w);
    CHECK_EQ(w.drained, 1);
    CHECK_EQ(world_stats(&w).invalidated, 0);
    world_end(&w);
}

static void test_close_idle(void)
{
    struct world w;
    world_open(&w, 2, 0, 0);
    world_release(&w, world_take(&w, NULL));
    pool_close(w.pool, w.now);
    CHECK_EQ(w.closing.n, 1);
    world_end(&w);
}

static void test_close_empty(void)
{
    struct world w;
    world_open(&w, 2, 0, 0);
    pool_close(w.pool, w.now);
    CHECK_EQ(w.drained, 1);
    pool_close(w.pool, w.now);
    world_end(&w);
}

static void test_close_while_opening(void)
{
    struct world w;
    struct world_waiter x[2] = {0};
    world_open(&w, 2, 0, 0);
    CHECK_EQ(world_acquire(&w, &x[0], NULL), POOL_WAITING);
    CHECK_EQ(world_acquire(&w, &x[1], NULL), POOL_WAITING);
    pool_close(w.pool, w.now);
    CHECK_EQ(x[1].w.result, POOL_CLOSED);
    world_opened(&w);
    CHECK_EQ(w.closing.n, 1);
    world_open_failed(&w, "too late");
    CHECK_EQ(w.drained, 0);
    world_closed(&w);
    CHECK_EQ(w.drained, 1);
    world_end(&w);
}

/* ---- deadlock ---- */

static void test_deadlock(void)
{
    struct world w;
    struct world_waiter a = {0}, b = {0}, c = {0};
    world_open(&w, 2, 0, 0);
    struct pool_slot *s = world_take(&w, &one);
    world_take(&w, &two);
    CHECK_EQ(world_acquire(&w, &c, &three), POOL_WAITING); /* holds nothing: no reason to refuse */
    CHECK_EQ(world_acquire(&w, &a, &one), POOL_WAITING);   /* two can still release */
    CHECK_EQ(world_acquire(&w, &b, &two), POOL_DEADLOCK);
    CHECK_EQ(b.calls, 0);
    world_release(&w, s);
    CHECK(c.w.slot == s);
    CHECK_EQ(world_acquire(&w, &b, &two), POOL_WAITING); /* three holds one now, and does not wait */
    world_end(&w);
}

static void test_deadlock_alone(void)
{
    struct world w;
    struct world_waiter a = {0};
    world_open(&w, 1, 0, 0);
    world_take(&w, &one);
    CHECK_EQ(world_acquire(&w, &a, &one), POOL_DEADLOCK);
    CHECK_EQ(world_acquire_now(&w, &a, &one), POOL_FULL);
    world_end(&w);
}

static void test_no_deadlock_while_moving(void)
{
    struct world w;
    struct world_waiter a = {0}, b = {0};
    world_open(&w, 2, 0, 0);
    world_take(&w, &one);
    struct pool_slot *s = world_take(&w, &two);
    world_conn(s)->verdict = POOL_RESET;
    world_release(&w, s);
    CHECK_EQ(world_acquire(&w, &a, &one), POOL_WAITING); /* the other one is being reset */
    world_reset_done(&w, true);
    CHECK(a.w.slot == s);
    pool_discard(w.pool, s, w.now);
    CHECK_EQ(world_acquire(&w, &b, &one), POOL_WAITING); /* being closed */
    world_closed(&w);
    world_opened(&w);
    CHECK_EQ(b.w.result, POOL_GRANTED);
    CHECK_EQ(world_acquire(&w, &a, &one), POOL_DEADLOCK);
    world_end(&w);
}

static void test_no_deadlock_after_leaving(void)
{
    struct world w;
    struct world_waiter a = {0}, b = {0};
    world_open(&w, 2, 0, 0);
    world_take(&w, &one);
    world_take(&w, &two);
    CHECK_EQ(world_acquire(&w, &a, &one), POOL_WAITING);
    CHECK(pool_cancel(w.pool, &a.w, true, w.now)); /* one goes on and can release */
    CHECK_EQ(world_acquire(&w, &b, &two), POOL_WAITING);
    CHECK_EQ(world_acquire(&w, &a, &one), POOL_DEADLOCK);
    world_end(&w);
}

static void test_no_deadlock_without_owner(void)
{
    struct world w;
    struct world_waiter a = {0}, b = {0};
    world_open(&w, 2, 0, 0);
    world_take(&w, &one);
    world_take(&w, NULL); /* its unknown owner can release it */
    CHECK_EQ(world_acquire(&w, &a, &one), POOL_WAITING);
    CHECK_EQ(world_acquire(&w, &b, NULL), POOL_WAITING);
    world_end(&w);
}

/* ---- statistics ---- */

static void count_leased(const struct pool_slot *s, void *data)
{
    struct world *w = data;
    w->order[w->settled++] = *(const int *)s->owner;
}

static void test_holders(void)
{
    struct world w;
    world_open(&w, 3, 0, 0);
    world_take(&w, &two);
    struct pool_slot *s = world_take(&w, &one);
    world_take(&w, &three);
    world_release(&w, s);
    world_take(&w, &one);
    pool_each_leased(w.pool, count_leased, &w);
    CHECK_EQ(w.settled, 3);
    CHECK_EQ(w.order[0] * 100 + w.order[1] * 10 + w.order[2], 231);
    world_end(&w);
}

static void count_slot(struct pool_slot *s, void *data)
{
    ((int *)data)[s->state]++;
}

static void test_figures(void)
{
    struct world w;
    struct world_waiter x[3] = {0};
    int seen[SLOT_CLOSING + 1] = {0};
    world_open(&w, 3, 1, 0);
    pool_discard(w.pool, world_take(&w, NULL), w.now);
    struct pool_slot *r = world_take(&w, NULL);
    world_conn(r)->verdict = POOL_RESET;
    world_release(&w, r);
    world_take(&w, NULL);
    CHECK_EQ(world_acquire(&w, &x[0], NULL), POOL_WAITING);
    CHECK_EQ(world_acquire(&w, &x[1], NULL), POOL_WAITING);
    struct pool_stats s = world_stats(&w);
    pool_each(w.pool, count_slot, seen);
    CHECK_EQ(s.size * 100 + s.overflow * 10 + s.open, 314);
    CHECK_EQ(s.opening * 1000 + s.resetting * 100 + s.closing * 10 + s.leased, 1111);
    CHECK_EQ(s.waiting, 2);
    CHECK_EQ(s.opened, 3);
    CHECK_EQ(seen[SLOT_OPENING] + seen[SLOT_RESETTING] + seen[SLOT_CLOSING] + seen[SLOT_LEASED], 4);
    w.now += 2 * (uint64_t)S;
    world_opened(&w);
    CHECK_EQ(world_stats(&w).wait_ns, 2 * (uint64_t)S);
    CHECK_EQ(world_stats(&w).wait_max_ns, 2 * (uint64_t)S);
    world_end(&w);
}

int main(void)
{
    TEST("a connection seen dying is closed at once when idle, on return when leased", test_died_idle);
    TEST("invalidate closes idle connections at once, the others on return", test_invalidate);
    TEST("a connect begun before an invalidate is made again", test_invalidate_while_opening);
    TEST("dispose closes idle connections, and the pool stays usable", test_dispose);
    TEST("close settles waiters, waits for leases, then says drained", test_close);
    TEST("close closes idle connections", test_close_idle);
    TEST("closing an empty pool drains at once, and only once", test_close_empty);
    TEST("close while opening closes the new connection", test_close_while_opening);
    TEST("the waiter that would complete a deadlock is refused", test_deadlock);
    TEST("an owner of all connections that asks for more is refused", test_deadlock_alone);
    TEST("no deadlock while a connection is being reset or closed", test_no_deadlock_while_moving);
    TEST("no deadlock once a waiting holder has left the queue", test_no_deadlock_after_leaving);
    TEST("no deadlock when a connection has no known owner", test_no_deadlock_without_owner);
    TEST("holders are listed oldest lease first", test_holders);
    TEST("the statistics add up", test_figures);
    return check_end("pool life");
}
