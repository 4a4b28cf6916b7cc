/* Handing out and taking back: capacity, order, failed connects, waiters. */
#include "check.h"
#include "pool_world.h"

static const int one = 1, two = 2, three = 3, four = 4;

/* ---- capacity ---- */

static void test_starts_empty(void)
{
    struct world w;
    world_open(&w, 3, 2, 0);
    CHECK_EQ(world_stats(&w).open, 0);
    CHECK_EQ(w.opening.n, 0);
    world_end(&w);
    CHECK_EQ(w.conns, 0);
}

static void test_opens_on_demand(void)
{
    struct world w;
    struct world_waiter a = {0};
    world_open(&w, 3, 0, 0);
    CHECK_EQ(world_acquire(&w, &a, &one), POOL_WAITING);
    CHECK_EQ(w.opening.n, 1);
    world_opened(&w);
    CHECK_EQ(a.calls, 1);
    CHECK_EQ(a.w.result, POOL_GRANTED);
    CHECK(a.w.slot && a.w.slot->state == SLOT_LEASED && a.w.slot->owner == &one);
    world_release(&w, a.w.slot);
    CHECK_EQ(world_stats(&w).open, 1);
    world_end(&w);
}

static void test_idle_lifo(void)
{
    struct world w;
    world_open(&w, 3, 0, 0);
    struct pool_slot *a = world_take(&w, NULL);
    struct pool_slot *b = world_take(&w, NULL);
    struct pool_slot *c = world_take(&w, NULL);
    world_release(&w, b);
    world_release(&w, a);
    world_release(&w, c);
    CHECK(world_take(&w, NULL) == c);
    CHECK(world_take(&w, NULL) == a);
    CHECK(world_take(&w, NULL) == b);
    CHECK_EQ(w.conns, 3);
    world_end(&w);
}

static void test_limit(void)
{
    struct world w;
    struct world_waiter x[5] = {0};
    world_open(&w, 2, 1, 0);
    for (int i = 0; i < 5; i++)
        CHECK_EQ(world_acquire(&w, &x[i], NULL), POOL_WAITING);
    CHECK_EQ(w.opening.n, 3); /* reserved before the connects succeed */
    CHECK_EQ(world_stats(&w).waiting, 5);
    for (int i = 0; i < 3; i++)
        world_opened(&w);
    CHECK_EQ(w.opening.n, 0);
    CHECK_EQ(x[2].calls, 1);
    CHECK_EQ(x[3].calls, 0);
    CHECK_EQ(world_stats(&w).waiting, 2);
    world_end(&w);
    CHECK_EQ(x[3].w.result, POOL_CLOSED);
}

static void test_no_limit(void)
{
    struct world w;
    static const struct {
        uint32_t size;
        int32_t overflow;
        uint32_t stay;
    } kind[] = {{0, 0, 40}, {5, -1, 5}};
    for (int k = 0; k < 2; k++) {
        struct pool_slot *s[40];
        world_open(&w, kind[k].size, kind[k].overflow, 0);
        w.sync = true;
        for (int i = 0; i < 40; i++)
            s[i] = world_take(&w, NULL);
        for (int i = 0; i < 40; i++)
            world_release(&w, s[i]);
        CHECK_EQ(world_stats(&w).idle, kind[k].stay);
        CHECK_EQ(world_stats(&w).overflow, UINT32_MAX);
        world_end(&w);
    }
}

static void test_first_back_stay(void)
{
    struct world w;
    struct pool_slot *s[4];
    world_open(&w, 2, 2, 0);
    for (int i = 0; i < 4; i++)
        s[i] = world_take(&w, NULL);
    /* The connections opened last are returned first: they stay. */
    for (int i = 3; i >= 0; i--)
        world_release(&w, s[i]);
    CHECK_EQ(world_stats(&w).idle, 2);
    CHECK_EQ(w.closing.n, 2);
    CHECK_EQ(s[3]->state, SLOT_IDLE);
    CHECK_EQ(s[0]->state, SLOT_CLOSING);
    CHECK_EQ(world_stats(&w).open, 4); /* they count until they are closed */
    world_all_closed(&w);
    CHECK_EQ(world_stats(&w).open, 2);
    CHECK_EQ(world_stats(&w).invalidated, 0);
    world_end(&w);
}

static void test_overflow_goes_to_waiter(void)
{
    struct world w;
    struct world_waiter x = {0};
    world_open(&w, 1, 1, 0);
    struct pool_slot *a = world_take(&w, NULL);
    struct pool_slot *b = world_take(&w, NULL);
    CHECK_EQ(world_acquire(&w, &x, NULL), POOL_WAITING);
    world_release(&w, b);
    CHECK(x.w.slot == b);
    world_release(&w, a);
    world_release(&w, b);
    CHECK_EQ(w.closing.n, 1);
    world_end(&w);
}

static void test_closing_counts(void)
{
    struct world w;
    struct world_waiter x = {0};
    world_open(&w, 1, 0, 0);
    pool_discard(w.pool, world_take(&w, NULL), w.now);
    CHECK_EQ(world_acquire(&w, &x, NULL), POOL_WAITING);
    CHECK_EQ(w.opening.n, 0);
    world_closed(&w);
    CHECK_EQ(w.opening.n, 1);
    world_opened(&w);
    CHECK_EQ(x.w.result, POOL_GRANTED);
    world_end(&w);
}

/* ---- order ---- */

static void test_fifo(void)
{
    struct world w;
    struct world_waiter x[3] = {0};
    world_open(&w, 1, 0, 0);
    struct pool_slot *s = world_take(&w, NULL);
    CHECK_EQ(world_acquire(&w, &x[0], &one), POOL_WAITING);
    CHECK_EQ(world_acquire(&w, &x[1], &two), POOL_WAITING);
    CHECK_EQ(world_acquire(&w, &x[2], &three), POOL_WAITING);
    for (int i = 0; i < 3; i++) {
        world_release(&w, s);
        CHECK_EQ(w.settled, i + 1);
        CHECK_EQ(w.order[i], i + 1);
        CHECK(x[i].w.slot == s);
    }
    world_end(&w);
}

static struct world_waiter barger;

static void barge(struct world_waiter *x)
{
    CHECK_EQ(world_acquire(x->world, &barger, &four), POOL_WAITING);
    world_release(x->world, x->w.slot);
}

static void test_no_barging(void)
{
    struct world w;
    struct world_waiter a = {.then = barge};
    struct world_waiter b = {0};
    barger = (struct world_waiter){0};
    world_open(&w, 1, 0, 0);
    struct pool_slot *s = world_take(&w, NULL);
    CHECK_EQ(world_acquire(&w, &a, &one), POOL_WAITING);
    CHECK_EQ(world_acquire(&w, &b, &two), POOL_WAITING);
    world_release(&w, s); /* a asks again and releases at once: b came before */
    CHECK(b.w.slot == s);
    CHECK_EQ(barger.calls, 0);
    world_release(&w, s);
    CHECK(barger.w.slot == s);
    CHECK_EQ(w.order[2], 4);
    world_end(&w);
}

static void test_return_beats_connect(void)
{
    struct world w;
    struct world_waiter x = {0};
    world_open(&w, 2, 0, 0);
    struct pool_slot *s = world_take(&w, NULL);
    CHECK_EQ(world_acquire(&w, &x, NULL), POOL_WAITING);
    CHECK_EQ(w.opening.n, 1);
    world_release(&w, s);
    CHECK(x.w.slot == s);
    world_opened(&w); /* its waiter is gone: it is kept */
    CHECK_EQ(world_stats(&w).idle, 1);
    CHECK_EQ(x.calls, 1);
    world_end(&w);
}

/* ---- failed connects ---- */

static void test_failed_connect(void)
{
    struct world w;
    struct world_waiter x[3] = {0};
    world_open(&w, 1, 0, 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(world_acquire(&w, &x[i], NULL), POOL_WAITING);
    world_open_failed(&w, "connection refused");
    CHECK_EQ(x[0].w.result, POOL_FAILED);
    CHECK_STR(x[0].w.error.message, "connection refused");
    CHECK_EQ(x[0].w.error.kind, ERROR_CONNECT);
    CHECK_EQ(x[1].calls, 0);
    CHECK_EQ(w.opening.n, 1); /* the permission went to the next */
    world_opened(&w);
    CHECK_EQ(x[1].w.result, POOL_GRANTED);
    CHECK_EQ(world_stats(&w).failed, 1);
    CHECK_EQ(world_stats(&w).open, 1);
    error_clear(&x[0].w.error);
    world_end(&w);
    CHECK_EQ(x[2].w.result, POOL_CLOSED);
}

static void test_failed_connect_gives_back(void)
{
    struct world w;
    struct world_waiter x = {0};
    world_open(&w, 1, 0, 0);
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(world_acquire(&w, &x, NULL), POOL_WAITING);
        world_open_failed(&w, "no");
        CHECK_EQ(world_stats(&w).open, 0);
        error_clear(&x.w.error);
    }
    CHECK(world_take(&w, NULL) != NULL);
    world_end(&w);
}

static void test_failed_connect_nobody(void)
{
    struct world w;
    struct world_waiter x = {0};
    world_open(&w, 1, 0, 0);
    CHECK_EQ(world_acquire(&w, &x, NULL), POOL_WAITING);
    CHECK(pool_cancel(w.pool, &x.w, false, w.now));
    world_open_failed(&w, "no");
    CHECK_EQ(x.calls, 0);
    CHECK_EQ(world_stats(&w).open, 0);
    world_end(&w);
}

static void test_many_failing_connects(void)
{
    enum { N = 20000 };
    struct world w;
    struct world_waiter *x = calloc(N, sizeof *x);
    if (!CHECK(x != NULL))
        return;
    world_open(&w, 1, 0, 0);
    struct pool_slot *s = world_take(&w, NULL);
    for (int i = 0; i < N; i++)
        CHECK_EQ(world_acquire(&w, &x[i], NULL), POOL_WAITING);
    w.sync = true; /* each failure starts the next connect before it returns: no recursion */
    w.fail_opens = N;
    pool_discard(w.pool, s, w.now);
    CHECK_EQ(w.settled, N);
    for (int i = 0; i < N; i++) {
        CHECK_EQ(x[i].w.result, POOL_FAILED);
        error_clear(&x[i].w.error);
    }
    free(x);
    world_end(&w);
}

/* ---- waiters ---- */

static void test_cancel(void)
{
    struct world w;
    struct world_waiter a = {0}, b = {0};
    world_open(&w, 1, 0, 0);
    struct pool_slot *s = world_take(&w, NULL);
    CHECK_EQ(world_acquire(&w, &a, &one), POOL_WAITING);
    CHECK_EQ(world_acquire(&w, &b, &two), POOL_WAITING);
    CHECK(pool_cancel(w.pool, &a.w, false, w.now));
    CHECK(!pool_cancel(w.pool, &a.w, false, w.now));
    CHECK_EQ(world_stats(&w).waiting, 1);
    world_release(&w, s);
    CHECK_EQ(a.calls, 0);
    CHECK(b.w.slot == s);
    CHECK_EQ(world_stats(&w).timeouts, 0);
    world_end(&w);
}

static void test_expired(void)
{
    struct world w;
    struct world_waiter a = {0};
    world_open(&w, 1, 0, 0);
    world_take(&w, NULL);
    CHECK_EQ(world_acquire(&w, &a, &one), POOL_WAITING);
    w.now += 30 * (uint64_t)S;
    CHECK(pool_cancel(w.pool, &a.w, true, w.now));
    struct pool_stats s = world_stats(&w);
    CHECK_EQ(s.timeouts, 1);
    CHECK_EQ(s.wait_count, 2); /* the first one waited for its connect */
    CHECK_EQ(s.wait_max_ns, 30 * (uint64_t)S);
    world_end(&w);
}

static void test_cancel_too_late(void)
{
    struct world w;
    struct world_waiter a = {0};
    world_open(&w, 1, 0, 0);
    struct pool_slot *s = world_take(&w, NULL);
    CHECK_EQ(world_acquire(&w, &a, NULL), POOL_WAITING);
    world_release(&w, s);
    CHECK(!pool_cancel(w.pool, &a.w, true, w.now)); /* granted already: the caller must release it */
    CHECK_EQ(world_stats(&w).timeouts, 0);
    world_release(&w, a.w.slot);
    CHECK_EQ(world_stats(&w).idle, 1);
    world_end(&w);
}

static void test_cancel_while_opening(void)
{
    struct world w;
    struct world_waiter a = {0};
    world_open(&w, 1, 0, 0);
    CHECK_EQ(world_acquire(&w, &a, NULL), POOL_WAITING);
    CHECK(pool_cancel(w.pool, &a.w, false, w.now));
    world_opened(&w);
    CHECK_EQ(world_stats(&w).idle, 1);
    CHECK(world_take(&w, NULL) != NULL);
    CHECK_EQ(w.conns, 1);
    world_end(&w);
}

static void test_nowait(void)
{
    struct world w;
    struct world_waiter a = {0}, b = {0};
    world_open(&w, 1, 0, 0);
    CHECK_EQ(world_acquire_now(&w, &a, NULL), POOL_WAITING); /* for the connect, not for another user */
    CHECK_EQ(world_acquire_now(&w, &b, NULL), POOL_FULL);    /* that connect is for another user */
    world_opened(&w);
    CHECK_EQ(a.w.result, POOL_GRANTED);
    CHECK_EQ(world_acquire_now(&w, &b, NULL), POOL_FULL);
    CHECK_EQ(world_stats(&w).waiting, 0);
    world_release(&w, a.w.slot);
    CHECK_EQ(world_acquire_now(&w, &b, NULL), POOL_GRANTED);
    world_end(&w);
}

static void test_nowait_sees_no_dead(void)
{
    struct world w;
    struct world_waiter a = {0};
    world_open(&w, 1, 0, 0);
    struct pool_slot *s = world_take(&w, NULL);
    world_release(&w, s);
    world_conn(s)->check = POOL_CHECK_DEAD;
    CHECK_EQ(world_acquire_now(&w, &a, NULL), POOL_WAITING);
    world_closed(&w);
    world_opened(&w);
    CHECK_EQ(a.w.result, POOL_GRANTED);
    world_end(&w);
}

/* ---- embedders that answer at once ---- */

static void test_sync(void)
{
    struct world w;
    struct world_waiter a = {0}, b = {0};
    world_open(&w, 1, 0, 0);
    w.sync = true;
    CHECK_EQ(world_acquire_now(&w, &a, NULL), POOL_GRANTED);
    CHECK_EQ(world_acquire_now(&w, &b, NULL), POOL_FULL);
    world_conn(a.w.slot)->verdict = POOL_RESET;
    world_release(&w, a.w.slot);
    CHECK_EQ(w.resets, 1);
    CHECK_EQ(world_acquire_now(&w, &b, NULL), POOL_GRANTED);
    CHECK_EQ(w.conns, 1);
    CHECK_EQ(b.calls, 0);
    CHECK_EQ(world_stats(&w).wait_count, 0);
    world_end(&w);
}

static void test_sync_failure(void)
{
    struct world w;
    struct world_waiter a = {0};
    world_open(&w, 1, 0, 0);
    w.sync = true;
    w.fail_opens = 1;
    CHECK_EQ(world_acquire_now(&w, &a, NULL), POOL_FAILED);
    CHECK_STR(a.w.error.message, "refused");
    error_clear(&a.w.error);
    CHECK_EQ(world_acquire_now(&w, &a, NULL), POOL_GRANTED);
    world_end(&w);
}

static void give_back_at_once(struct world_waiter *x)
{
    world_release(x->world, x->w.slot);
}

static void test_release_from_settled(void)
{
    enum { N = 20000 };
    struct world w;
    struct world_waiter *x = calloc(N, sizeof *x);
    if (!CHECK(x != NULL))
        return;
    world_open(&w, 1, 0, 0);
    struct pool_slot *s = world_take(&w, NULL);
    for (int i = 0; i < N; i++) {
        x[i].then = give_back_at_once;
        CHECK_EQ(world_acquire(&w, &x[i], NULL), POOL_WAITING);
    }
    world_release(&w, s); /* runs through all of them, one after the other */
    CHECK_EQ(w.settled, N);
    CHECK_EQ(world_stats(&w).idle, 1);
    CHECK_EQ(world_stats(&w).acquired, N + 1);
    free(x);
    world_end(&w);
}

int main(void)
{
    TEST("a pool starts empty", test_starts_empty);
    TEST("a connection is opened on demand", test_opens_on_demand);
    TEST("idle connections are reused last in, first out", test_idle_lifo);
    TEST("never more than size + overflow, counting connects under way", test_limit);
    TEST("size 0 and overflow -1 are no limit", test_no_limit);
    TEST("without waiters the first `size` connections that are returned stay", test_first_back_stay);
    TEST("with waiters an overflow connection is handed on", test_overflow_goes_to_waiter);
    TEST("a connection counts until it is closed", test_closing_counts);
    TEST("waiters are served first come, first served", test_fifo);
    TEST("a later waiter is never served first", test_no_barging);
    TEST("a waiter gets a returned connection while its connect is under way", test_return_beats_connect);
    TEST("a failed connect fails the first waiter, and the next one opens", test_failed_connect);
    TEST("a failed connect gives its capacity back", test_failed_connect_gives_back);
    TEST("a connect that fails after its waiter left affects no other waiter", test_failed_connect_nobody);
    TEST("20000 connects that fail at once do not exhaust the stack", test_many_failing_connects);
    TEST("a cancelled waiter is never settled, and the next one is served", test_cancel);
    TEST("an expired waiter is counted", test_expired);
    TEST("cancelling a waiter that was granted returns false", test_cancel_too_late);
    TEST("a connect outlives the waiter it was begun for", test_cancel_while_opening);
    TEST("nowait is refused when all connections are in use", test_nowait);
    TEST("nowait does not notice a dead idle connection", test_nowait_sees_no_dead);
    TEST("operations may answer before they return", test_sync);
    TEST("a connect that fails before it returns answers the acquire", test_sync_failure);
    TEST("20000 waiters that release when settled do not exhaust the stack", test_release_from_settled);
    return check_end("pool");
}
