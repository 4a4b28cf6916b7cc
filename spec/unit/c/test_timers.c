/*
 * The scheduler's timers against a list that is searched: each timer runs once, when it is due and never
 * before; an inactive or stopped timer does not run; the heap keeps its order, and has no entry of a stopped
 * timer (its memory can be freed). No loop: mono_now() is the time, and deadlines are before or after it.
 */
#include "base/deadline.h"
#include "check.h"
#include "task/impl.h"

#include <stdlib.h>
#include <string.h>

enum { TIMERS = 200 };

struct one {
    struct sched_timer timer;
    uint64_t deadline; /* the model's; 0: inactive */
    uint64_t ran;
    bool again; /* starts again when it runs */
};

static struct sched sched;
static struct one *all[TIMERS];

static void on_due(struct sched_timer *t)
{
    struct one *o = t->data;
    CHECK(o->deadline != 0);
    CHECK(o->deadline <= mono_now());
    CHECK(!t->running);
    o->deadline = 0;
    o->ran++;
    if (o->again) {
        o->deadline = mono_now() + 3600 * NS_PER_S;
        sched_timer_start(&sched, t, o->deadline);
    }
}

static struct one *make(void)
{
    struct one *o = calloc(1, sizeof *o);
    CHECK(o != NULL);
    o->timer.fn = on_due;
    o->timer.data = o;
    return o;
}

static void check_heap(void)
{
    const struct timer_heap *h = &sched.timers;
    uint32_t running = 0, entries = 0;
    for (uint32_t i = 1; i <= h->n; i++) {
        CHECK_EQ(h->list[i].timer->index, i);
        if (i > 1)
            CHECK(h->list[i / 2].key <= h->list[i].key);
        if (h->list[i].timer->running)
            CHECK(h->list[i].key <= h->list[i].timer->deadline);
    }
    for (int i = 0; i < TIMERS; i++) {
        running += all[i]->deadline != 0;
        entries += all[i]->timer.index != 0;
        CHECK_EQ(all[i]->timer.running, all[i]->deadline != 0);
    }
    CHECK_EQ(h->running, running);
    CHECK_EQ(h->n, entries);
}

static void run_due(void)
{
    uint64_t before = mono_now();
    uint64_t ran[TIMERS];
    bool due[TIMERS];
    for (int i = 0; i < TIMERS; i++) {
        ran[i] = all[i]->ran;
        due[i] = all[i]->deadline && all[i]->deadline <= before;
    }
    timers_run(&sched);
    for (int i = 0; i < TIMERS; i++) {
        CHECK(all[i]->ran - ran[i] <= 1);
        if (due[i])
            CHECK_EQ(all[i]->ran - ran[i], 1);
    }
}

/* Most deadlines are a little after now, like time limits; some are in the past, and due at once. */
static uint64_t some_deadline(struct prng *r)
{
    if (prng_one_in(r, 8))
        return mono_now() - prng_below(r, NS_PER_S);
    return mono_now() + 600 * NS_PER_S + 60 * (uint64_t)prng_below(r, NS_PER_S);
}

static void test_random(void)
{
    struct prng r = prng_new(check_seed("timers"));
    for (int i = 0; i < TIMERS; i++)
        all[i] = make();
    for (uint64_t n = check_ops(100000); n > 0; n--) {
        uint32_t at = prng_below(&r, TIMERS);
        struct one *o = all[at];
        switch (prng_below(&r, 8)) {
        case 0:
            sched_timer_stop(&sched, &o->timer);
            CHECK_EQ(o->timer.index, 0);
            memset(o, 0xee, sizeof *o);
            free(o);
            all[at] = make();
            break;
        case 1:
        case 2:
            sched_timer_rest(&sched, &o->timer);
            o->deadline = 0;
            break;
        case 3:
            sched_timer_start(&sched, &o->timer, DEADLINE_NEVER);
            o->deadline = 0;
            break;
        default:
            o->again = prng_one_in(&r, 4);
            o->deadline = some_deadline(&r);
            sched_timer_start(&sched, &o->timer, o->deadline);
        }
        if (n % 64 == 0) {
            run_due();
            check_heap();
        }
    }
    timers_free(&sched);
    for (int i = 0; i < TIMERS; i++) {
        CHECK_EQ(all[i]->timer.index, 0);
        free(all[i]);
    }
}

/* A task that repeatedly waits with a limit: nothing moves in the heap. */
static void test_rest(void)
{
    struct one *o = make();
    for (int i = 0; i < 1000; i++) {
        o->deadline = mono_now() + 3600 * NS_PER_S;
        sched_timer_start(&sched, &o->timer, o->deadline);
        CHECK_EQ(sched.timers.running, 1);
        sched_timer_rest(&sched, &o->timer);
        CHECK_EQ(sched.timers.running, 0);
        CHECK_EQ(sched.timers.n, 1);
    }
    sched_timer_start(&sched, &o->timer, 1); /* earlier than its entry */
    o->deadline = 1;
    timers_run(&sched);
    CHECK_EQ(o->ran, 1);
    CHECK_EQ(sched.timers.n, 0);
    sched_timer_start(&sched, &o->timer, 1); /* inactive when its time comes: it does not run */
    sched_timer_rest(&sched, &o->timer);
    timers_run(&sched);
    CHECK_EQ(o->ran, 1);
    CHECK_EQ(sched.timers.n, 0);
    CHECK_EQ(o->timer.index, 0);
    timers_free(&sched);
    free(o);
}

int main(void)
{
    TEST("each timer runs once, when it is due, whatever starts and stops", test_random);
    TEST("an inactive timer that starts again keeps its entry", test_rest);
    return check_end("timers");
}
