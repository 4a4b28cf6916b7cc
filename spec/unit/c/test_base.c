/* The base floor: time, buffers, errors. */
#include "base/buf.h"
#include "base/deadline.h"
#include "base/error.h"
#include "check.h"

#include <limits.h>
#include <math.h>

/* ---- deadline ---- */

static void test_deadline_forward(void)
{
    uint64_t before = mono_now();
    uint64_t d = deadline_in(1.5);
    uint64_t after = mono_now();
    CHECK(d >= before + 1500 * NS_PER_MS);
    CHECK(d <= after + 1500 * NS_PER_MS);
}

static void test_coarse_clock(void)
{
    for (int i = 0; i < 1000; i++) {
        uint64_t coarse = mono_coarse();
        CHECK(coarse <= mono_now());
    }
    uint64_t now = mono_now();
    CHECK(mono_coarse() + NS_PER_S >= now); /* a tick can be late on a busy machine */
}

static void test_deadline_odd_numbers(void)
{
    uint64_t before = mono_now();
    CHECK(deadline_in(-5) >= before && deadline_in(-5) <= mono_now());
    CHECK(deadline_in(0) <= mono_now());
    CHECK(deadline_in(-INFINITY) <= mono_now());
    CHECK(deadline_in(INFINITY) == DEADLINE_NEVER);
    CHECK(deadline_in((double)NAN) == DEADLINE_NEVER);
    CHECK(deadline_in(1e300) == DEADLINE_NEVER);
    CHECK(deadline_in(8e9) != DEADLINE_NEVER);
    CHECK(deadline_in(8e9) > mono_now() + UINT64_C(7000000000) * NS_PER_S);
}

static void test_duration(void)
{
    CHECK(duration_ns(1.5) == 3 * NS_PER_S / 2);
    CHECK(duration_ns(0) == 0);
    CHECK(duration_ns(-5) == 0);
    CHECK(duration_ns(-INFINITY) == 0);
    CHECK(duration_ns(8e9) == UINT64_C(8000000000) * NS_PER_S);
    CHECK(duration_ns(1e12) == DEADLINE_NEVER);
    CHECK(duration_ns(INFINITY) == DEADLINE_NEVER);
    CHECK(duration_ns((double)NAN) == DEADLINE_NEVER);
}

static void test_deadline_after(void)
{
    CHECK(deadline_after(5, 7) == 12);
    CHECK(deadline_after(5, 0) == 5);
    CHECK(deadline_after(DEADLINE_NEVER, 0) == DEADLINE_NEVER);
    CHECK(deadline_after(DEADLINE_NEVER, 200 * NS_PER_MS) == DEADLINE_NEVER);
    CHECK(deadline_after(DEADLINE_NEVER, DEADLINE_NEVER) == DEADLINE_NEVER);
    CHECK(deadline_after(DEADLINE_NEVER - 3, 2) == DEADLINE_NEVER - 1);
    CHECK(deadline_after(DEADLINE_NEVER - 3, 3) == DEADLINE_NEVER);
    CHECK(deadline_after(DEADLINE_NEVER - 3, 4) == DEADLINE_NEVER);
    CHECK(deadline_after(mono_now(), DEADLINE_NEVER) == DEADLINE_NEVER);
}

static void test_deadline_min(void)
{
    CHECK(deadline_min(3, 4) == 3);
    CHECK(deadline_min(DEADLINE_NEVER, 4) == 4);
    CHECK(deadline_min(DEADLINE_NEVER, DEADLINE_NEVER) == DEADLINE_NEVER);
}

static void test_poll_ms(void)
{
    CHECK_EQ(deadline_poll_ms(DEADLINE_NEVER), -1);
    CHECK_EQ(deadline_poll_ms(0), 0);
    CHECK_EQ(deadline_poll_ms(mono_now()), 0);
    CHECK_EQ(deadline_poll_ms(mono_now() + NS_PER_S), 1000);
    CHECK_EQ(deadline_poll_ms(DEADLINE_NEVER - 1), INT_MAX);
    /* A wait of half a millisecond sleeps; it is no busy loop. */
    uint64_t soon = mono_now() + NS_PER_MS / 2;
    int ms = deadline_poll_ms(soon);
    CHECK(ms == 1 || mono_now() >= soon);
}

/* ---- buf ---- */

static void test_buf_grows(void)
{
    struct buf b = {0};
    for (int i = 0; i < 1000; i++)
        CHECK(buf_addf(&b, "%d,", i));
    CHECK_EQ(b.len, 10 * 2 + 90 * 3 + 900 * 4);
    CHECK_EQ(strlen(b.data), b.len);
    CHECK(strncmp(b.data, "0,1,2,", 6) == 0);
    buf_free(&b);
    CHECK(b.data == NULL && b.len == 0);
}

static void test_buf_exact(void)
{
    /* Every fill level around the sizes to which it grows: there is always room for the NUL. */
    for (size_t n = 0; n < 300; n++) {
        struct buf b = {0};
        for (size_t i = 0; i < n; i++)
            buf_add(&b, "x", 1);
        CHECK(buf_addf(&b, "%s", "tail"));
        CHECK_EQ(strlen(b.data), n + 4);
        buf_free(&b);
    }
}

static void test_buf_bytes(void)
{
    struct buf b = {0};
    CHECK(buf_add(&b, "a\0b", 3));
    CHECK_EQ(b.len, 3);
    CHECK(memcmp(b.data, "a\0b", 4) == 0);
    CHECK(buf_add(&b, NULL, 0));
    CHECK_EQ(b.len, 3);
    buf_free(&b);
}

static void test_buf_consume(void)
{
    struct buf b = {0};
    buf_consume(&b, 10);
    CHECK_EQ(b.len, 0);
    buf_adds(&b, "hello world");
    buf_consume(&b, 0);
    CHECK_STR(b.data, "hello world");
    buf_consume(&b, 6);
    CHECK_STR(b.data, "world");
    buf_consume(&b, 50);
    CHECK_EQ(b.len, 0);
    CHECK_STR(b.data, "");
    buf_free(&b);
}

static void test_buf_oom(void)
{
    struct buf b = {0};
    buf_adds(&b, "kept");
    CHECK(!buf_reserve(&b, SIZE_MAX - 10)); /* must not wrap around to a small size */
    CHECK(b.oom);
    CHECK(!buf_adds(&b, "lost"));
    CHECK(!buf_addf(&b, "%d", 1));
    CHECK_STR(b.data, "kept");
    buf_clear(&b);
    CHECK(buf_adds(&b, "again"));
    CHECK_STR(b.data, "again");
    buf_free(&b);
}

/* ---- error ---- */

static void test_error_set(void)
{
    struct error e = {0};
    CHECK(!error_is_set(&e));
    error_set(&e, ERROR_QUERY, "%s %d", "no", 7);
    CHECK(error_is_set(&e));
    CHECK_STR(e.message, "no 7");
    error_set_field(&e, ERROR_SQLSTATE, "42P01");
    error_set_field(&e, ERROR_SQLSTATE, "42601");
    CHECK_STR(e.field[ERROR_SQLSTATE], "42601");
    error_set_field(&e, ERROR_SQLSTATE, e.field[ERROR_SQLSTATE]);
    CHECK_STR(e.field[ERROR_SQLSTATE], "42601");
    error_set_field(&e, ERROR_SQLSTATE, NULL);
    CHECK(e.field[ERROR_SQLSTATE] == NULL);
    error_clear(&e);
    CHECK(!error_is_set(&e) && !e.message);
    error_set(NULL, ERROR_QUERY, "nobody listens");
    error_set_field(NULL, ERROR_HINT, "nobody listens");
}

static void test_error_about_itself(void)
{
    struct error e = {0};
    error_set(&e, ERROR_IO, "first");
    error_set_field(&e, ERROR_DETAIL, "detail");
    e.retryable = true;
    error_set(&e, ERROR_CONNECT, "%s, %s", e.message, e.field[ERROR_DETAIL]);
    CHECK_STR(e.message, "first, detail");
    CHECK(e.field[ERROR_DETAIL] == NULL && !e.retryable); /* a new error */
    error_clear(&e);
}

static void test_error_copy(void)
{
    struct error a = {0}, b = {0};
    error_copy(&b, &a);
    CHECK(!error_is_set(&b) && !b.message);
    error_set(&a, ERROR_QUERY, "broken");
    error_set_field(&a, ERROR_HINT, "mend it");
    a.position = 3;
    a.outcome = OUTCOME_UNKNOWN;
    error_copy(&b, &a);
    error_copy(&b, &b);
    CHECK_STR(b.message, "broken");
    CHECK_STR(b.field[ERROR_HINT], "mend it");
    CHECK_EQ(b.position, 3);
    CHECK_EQ(b.outcome, OUTCOME_UNKNOWN);
    error_clear(&a);
    CHECK_STR(b.message, "broken");
    error_clear(&b);
}

static void test_error_move(void)
{
    struct error a = {0}, b = {0};
    error_set(&a, ERROR_QUERY, "a");
    error_set(&b, ERROR_QUERY, "b");
    error_move(&b, &a);
    CHECK_STR(b.message, "a");
    CHECK(!error_is_set(&a));
    error_move(&b, &b);
    CHECK_STR(b.message, "a");
    error_move(&b, &a);
    CHECK(!error_is_set(&b) && !b.message);
}

static void test_error_names(void)
{
    static const char *const kinds[] = {"none",  "usage",      "config", "connect", "timeout",  "cancelled",
                                        "query", "constraint", "pool",   "redis",   "protocol", "io"};
    for (int k = ERROR_NONE; k <= ERROR_IO; k++)
        CHECK_STR(error_kind_name((enum error_kind)k), kinds[k]);
    for (int f = 0; f < ERROR_FIELDS; f++)
        CHECK(error_field_name((enum error_field)f) != NULL);
    CHECK(error_outcome_name(OUTCOME_NONE) == NULL);
    CHECK_STR(error_outcome_name(OUTCOME_NOT_SENT), "not_sent");
    CHECK_STR(error_outcome_name(OUTCOME_FAILED), "failed");
    CHECK_STR(error_outcome_name(OUTCOME_UNKNOWN), "unknown");
}

int main(void)
{
    TEST("a deadline is that many seconds ahead", test_deadline_forward);
    TEST("the coarse clock is a little behind, never ahead", test_coarse_clock);
    TEST("negative, infinite, huge and no number make sensible deadlines", test_deadline_odd_numbers);
    TEST("seconds become nanoseconds, up to the largest integer", test_duration);
    TEST("a deadline that much later never comes round to the past", test_deadline_after);
    TEST("the earlier of two deadlines", test_deadline_min);
    TEST("milliseconds for poll are rounded up", test_poll_ms);
    TEST("a buffer grows", test_buf_grows);
    TEST("a buffer keeps room for its NUL at every size", test_buf_exact);
    TEST("a buffer takes any bytes, and none", test_buf_bytes);
    TEST("the first bytes of a buffer can be dropped", test_buf_consume);
    TEST("an allocation that fails leaves a buffer as it was", test_buf_oom);
    TEST("an error is set, changed and cleared", test_error_set);
    TEST("an error can be made out of itself", test_error_about_itself);
    TEST("a copy of an error is its own", test_error_copy);
    TEST("moving an error empties the other", test_error_move);
    TEST("kinds, outcomes and fields have the names that scripts see", test_error_names);
    return check_end("base");
}
