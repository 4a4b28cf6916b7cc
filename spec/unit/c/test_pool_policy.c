/* What the pool does with a connection: pre-ping, recycling, the verdict on return. */
#include "check.h"
#include "pool_world.h"

static const int one = 1;

/* ---- pre-ping ---- */

static void test_check_every_checkout(void)
{
    struct world w;
    world_open(&w, 2, 0, 0);
    struct pool_slot *s = world_take(&w, NULL);
    CHECK_EQ(w.checks, 0); /* it was opened for this checkout */
    world_release(&w, s);
    w.now += 3 * (uint64_t)S;
    CHECK(world_take(&w, NULL) == s);
    CHECK_EQ(w.checks, 1);
    CHECK_EQ(world_conn(s)->idle_ns, 3 * (uint64_t)S);
    CHECK_EQ(w.pings, 0);
    world_end(&w);
}

static void test_ping_alive(void)
{
    struct world w;
    struct world_waiter x = {0};
    world_open(&w, 2, 0, 0);
    struct pool_slot *s = world_take(&w, NULL);
    world_release(&w, s);
    world_conn(s)->check = POOL_CHECK_PING;
    CHECK_EQ(world_acquire(&w, &x, NULL), POOL_WAITING);
    CHECK_EQ(w.pinging.n, 1);
    CHECK_EQ(w.opening.n, 0); /* the ping is for this waiter: no second connection */
    world_pinged(&w, true);
    CHECK(x.w.slot == s);
    world_end(&w);
    CHECK_EQ(w.conns, 1);
}

/* pool_take returns an idle connection that passes its check, and leaves the rest to pool_acquire, which does
 * not check again: the first check can have read the server's message. */
static void test_take(void)
{
    struct world w;
    struct world_waiter x = {0};
    world_open(&w, 2, 0, 0);
    CHECK(pool_take(w.pool, NULL, w.now) == NULL); /* it opens none */
    struct pool_slot *s = world_take(&w, NULL);
    CHECK(pool_take(w.pool, NULL, w.now) == NULL);
    world_release(&w, s);
    CHECK(pool_take(w.pool, &one, w.now) == s);
    CHECK(s->state == SLOT_LEASED && s->owner == &one);
    world_release(&w, s);
    world_conn(s)->check = POOL_CHECK_PING;
    int checks = w.checks;
    CHECK(pool_take(w.pool, NULL, w.now) == NULL);
    CHECK_EQ(s->state, SLOT_IDLE);
    world_conn(s)->check = POOL_CHECK_OK;
    CHECK(pool_take(w.pool, NULL, w.now) == NULL); /* the result of the check is kept */
    CHECK_EQ(world_acquire(&w, &x, NULL), POOL_WAITING);
    CHECK_EQ(w.checks, checks + 1);
    CHECK_EQ(w.pinging.n, 1);
    CHECK(pool_has_waiter(w.pool) && pool_take(w.pool, NULL, w.now) == NULL);
    world_pinged(&w, true);
    CHECK(x.w.slot == s);
    world_end(&w);
}

static void idle_pair(struct world *w, struct pool_slot *s[3])
{
    for (int i = 0; i < 3; i++)
        s[i] = world_take(w, NULL);
    world_release(w, s[0]);
    world_release(w, s[1]);
}

static void test_ping_failed(void)
{
    struct world w;
    struct world_waiter x = {0};
    struct pool_slot *s[3];
    world_open(&w, 3, 0, 0);
    idle_pair(&w, s); /* s[2] stays in use */
    world_conn(s[1])->check = POOL_CHECK_PING;
    CHECK_EQ(world_acquire(&w, &x, NULL), POOL_WAITING);
    world_pinged(&w, false);
    CHECK_EQ(w.closing.n, 2); /* the other idle one is as old: closed, too */
    CHECK_EQ(s[2]->state, SLOT_LEASED);
    world_closed(&w);
    world_opened(&w);
    CHECK_EQ(x.w.result, POOL_GRANTED);
    CHECK_EQ(world_conn(x.w.slot)->id, 4);
    world_release(&w, s[2]); /* was in use: closed on return, without a verdict */
    CHECK_EQ(w.judges, 2);
    world_all_closed(&w);
    CHECK_EQ(world_stats(&w).invalidated, 3);
    world_release(&w, x.w.slot); /* opened after the failure: kept */
    CHECK_EQ(world_stats(&w).idle, 1);
    world_end(&w);
}

static void test_check_dead(void)
{
    struct world w;
    struct world_waiter x = {0};
    struct pool_slot *s[3];
    world_open(&w, 3, 0, 0);
    idle_pair(&w, s);
    w.sync = true;
    world_conn(s[1])->check = POOL_CHECK_DEAD;
    CHECK_EQ(world_acquire(&w, &x, NULL), POOL_GRANTED); /* the caller does not notice */
    CHECK_EQ(world_conn(x.w.slot)->id, 4);
    CHECK_EQ(world_stats(&w).open, 2);
    world_release(&w, s[2]);
    CHECK_EQ(world_stats(&w).open, 1);
    world_end(&w);
}

static void test_pings_fail_together(void)
{
    struct world w;
    struct world_waiter x[2] = {0};
    struct pool_slot *s[3];
    world_open(&w, 3, 0, 0);
    idle_pair(&w, s);
    world_conn(s[0])->check = world_conn(s[1])->check = POOL_CHECK_PING;
    CHECK_EQ(world_acquire(&w, &x[0], NULL), POOL_WAITING);
    CHECK_EQ(world_acquire(&w, &x[1], NULL), POOL_WAITING);
    CHECK_EQ(w.pinging.n, 2);
    world_pinged(&w, false);
    world_closed(&w);
    CHECK_EQ(w.opening.n, 1);
    world_pinged(&w, false); /* must not retire connections opened since the first failure */
    world_opened(&w);
    CHECK_EQ(x[0].w.result, POOL_GRANTED);
    world_closed(&w);
    world_opened(&w);
    CHECK_EQ(x[1].w.result, POOL_GRANTED);
    world_release(&w, x[0].w.slot);
    CHECK_EQ(world_stats(&w).idle, 1);
    CHECK_EQ(w.conns, 5);
    world_end(&w);
}

static void test_ping_waiter_served_otherwise(void)
{
    struct world w;
    struct world_waiter x = {0};
    world_open(&w, 2, 0, 0);
    struct pool_slot *a = world_take(&w, NULL);
    struct pool_slot *b = world_take(&w, NULL);
    world_release(&w, a);
    world_conn(a)->check = POOL_CHECK_PING;
    CHECK_EQ(world_acquire(&w, &x, NULL), POOL_WAITING);
    world_release(&w, b);
    CHECK(x.w.slot == b);
    world_pinged(&w, true);
    CHECK_EQ(a->state, SLOT_IDLE);
    CHECK_EQ(world_stats(&w).idle, 1);
    world_end(&w);
}

static void test_check_at_hand_over(void)
{
    struct world w;
    struct world_waiter x = {0};
    world_open(&w, 1, 0, 0);
    struct pool_slot *s = world_take(&w, NULL);
    CHECK_EQ(world_acquire(&w, &x, NULL), POOL_WAITING);
    world_conn(s)->check = POOL_CHECK_DEAD;
    world_release(&w, s);
    CHECK_EQ(w.checks, 1);
    CHECK_EQ(x.calls, 0);
    world_closed(&w);
    world_opened(&w);
    CHECK_EQ(x.w.result, POOL_GRANTED);
    CHECK_EQ(w.conns, 2);
    world_end(&w);
}

/* ---- recycle ---- */

static void test_recycle_on_checkout(void)
{
    struct world w;
    struct world_waiter x = {0};
    world_open(&w, 2, 0, 100);
    struct pool_slot *s = world_take(&w, NULL);
    w.now += 500 * (uint64_t)S;
    world_release(&w, s); /* no check here */
    CHECK_EQ(world_stats(&w).idle, 1);
    CHECK_EQ(world_acquire(&w, &x, NULL), POOL_WAITING);
    CHECK_EQ(world_stats(&w).recycled, 1);
    CHECK_EQ(w.checks, 0); /* no check, since it is closed anyway */
    world_opened(&w);
    CHECK_EQ(world_conn(x.w.slot)->id, 2);
    world_end(&w);
}

static void test_recycle_strictly_older(void)
{
    struct world w;
    world_open(&w, 2, 0, 100);
    struct pool_slot *s = world_take(&w, NULL);
    uint64_t due = s->expires_at;
    CHECK(due <= w.now + 100 * (uint64_t)S);
    CHECK(due >= w.now + 90 * (uint64_t)S); /* jitter: at most a tenth earlier */
    world_release(&w, s);
    w.now = due;
    CHECK(world_take(&w, NULL) == s);
    world_release(&w, s);
    w.now = due + 1;
    CHECK(world_conn(world_take(&w, NULL))->id == 2);
    world_end(&w);
}

static void test_recycle_jitter(void)
{
    struct world w;
    struct pool_slot *s[8];
    int different = 0;
    world_open(&w, 8, 0, 100);
    for (int i = 0; i < 8; i++)
        s[i] = world_take(&w, NULL);
    for (int i = 1; i < 8; i++)
        different += s[i]->expires_at != s[0]->expires_at;
    CHECK_EQ(different, 7);
    world_end(&w);
}

static void test_recycle_at_hand_over(void)
{
    struct world w;
    struct world_waiter x = {0};
    world_open(&w, 1, 0, 10);
    struct pool_slot *s = world_take(&w, NULL);
    CHECK_EQ(world_acquire(&w, &x, NULL), POOL_WAITING);
    w.now += 11 * (uint64_t)S;
    world_release(&w, s);
    CHECK_EQ(x.calls, 0);
    world_closed(&w);
    world_opened(&w);
    CHECK_EQ(x.w.result, POOL_GRANTED);
    CHECK_EQ(world_stats(&w).recycled, 1);
    world_end(&w);
}

/* ---- return ---- */

static void test_reset_keeps_slot(void)
{
    struct world w;
    struct world_waiter x = {0};
    world_open(&w, 1, 0, 0);
    struct pool_slot *s = world_take(&w, &one);
    world_conn(s)->verdict = POOL_RESET;
    CHECK_EQ(world_acquire(&w, &x, NULL), POOL_WAITING);
    world_release(&w, s);
    CHECK_EQ(s->state, SLOT_RESETTING);
    CHECK(s->owner == NULL);
    CHECK_EQ(w.opening.n, 0);
    CHECK_EQ(x.calls, 0);
    world_reset_done(&w, true);
    CHECK(x.w.slot == s);
    CHECK_EQ(w.checks, 0); /* the server has just answered */
    world_end(&w);
}

static void test_reset_failed(void)
{
    struct world w;
    struct world_waiter x = {0};
    world_open(&w, 1, 0, 0);
    struct pool_slot *s = world_take(&w, NULL);
    world_conn(s)->verdict = POOL_RESET;
    CHECK_EQ(world_acquire(&w, &x, NULL), POOL_WAITING);
    world_release(&w, s);
    world_reset_done(&w, false);
    CHECK_EQ(w.closing.n, 1);
    world_closed(&w);
    world_opened(&w);
    CHECK_EQ(x.w.result, POOL_GRANTED);
    CHECK_EQ(world_stats(&w).invalidated, 1);
    world_end(&w);
}

static void test_reset_nobody(void)
{
    struct world w;
    world_open(&w, 1, 1, 0);
    struct pool_slot *a = world_take(&w, NULL);
    struct pool_slot *b = world_take(&w, NULL);
    world_conn(a)->verdict = world_conn(b)->verdict = POOL_RESET;
    world_release(&w, a);
    world_reset_done(&w, true);
    CHECK_EQ(a->state, SLOT_IDLE);
    world_release(&w, b); /* surplus: closing it rolls back, too */
    CHECK_EQ(b->state, SLOT_CLOSING);
    CHECK_EQ(w.resets, 1);
    world_end(&w);
}

static void test_broken(void)
{
    struct world w;
    world_open(&w, 1, 0, 0);
    struct pool_slot *s = world_take(&w, NULL);
    world_conn(s)->verdict = POOL_BROKEN;
    world_release(&w, s);
    CHECK_EQ(s->state, SLOT_CLOSING);
    CHECK_EQ(world_stats(&w).invalidated, 1);
    world_end(&w);
}

static void test_marked_invalid(void)
{
    struct world w;
    world_open(&w, 1, 0, 0);
    struct pool_slot *s = world_take(&w, NULL);
    s->invalid = true;
    world_release(&w, s);
    CHECK_EQ(s->state, SLOT_CLOSING);
    CHECK_EQ(w.judges, 0);
    world_end(&w);
}

static void test_detach(void)
{
    struct world w;
    struct world_waiter x = {0};
    world_open(&w, 1, 0, 0);
    struct pool_slot *s = world_take(&w, NULL);
    CHECK_EQ(world_acquire(&w, &x, NULL), POOL_WAITING);
    w.alive.n = 0; /* the world's list: the test owns it now */
    struct world_conn *c = pool_detach(w.pool, s, w.now);
    CHECK_EQ(c->id, 1);
    CHECK_EQ(w.opening.n, 1); /* its place is free */
    world_opened(&w);
    CHECK_EQ(x.w.result, POOL_GRANTED);
    CHECK_EQ(world_stats(&w).detached, 1);
    free(c);
    world_end(&w);
}

int main(void)
{
    TEST("every checkout checks the connection, except a fresh one", test_check_every_checkout);
    TEST("pool_take needs no waiter when the check passes, and checks once", test_take);
    TEST("a successful ping grants the connection", test_ping_alive);
    TEST("a failed ping retires every older connection and replaces this one", test_ping_failed);
    TEST("a connection found dead is replaced and the caller does not notice", test_check_dead);
    TEST("pings that fail together do not retire connections opened since", test_pings_fail_together);
    TEST("a pinged connection whose waiter was served otherwise stays idle",
         test_ping_waiter_served_otherwise);
    TEST("a hand-over to a waiter is a checkout: checked", test_check_at_hand_over);
    TEST("recycle is applied on checkout only", test_recycle_on_checkout);
    TEST("recycle means strictly older than", test_recycle_strictly_older);
    TEST("recycle has a jitter", test_recycle_jitter);
    TEST("a hand-over to a waiter is a checkout: recycled", test_recycle_at_hand_over);
    TEST("a reset keeps the slot and then grants it", test_reset_keeps_slot);
    TEST("a failed reset closes the connection, and the waiter opens another", test_reset_failed);
    TEST("a surplus connection is closed without a reset", test_reset_nobody);
    TEST("a broken connection is closed on return", test_broken);
    TEST("a connection marked invalid is closed on return, without a verdict", test_marked_invalid);
    TEST("a detached connection frees its place", test_detach);
    return check_end("pool policy");
}
