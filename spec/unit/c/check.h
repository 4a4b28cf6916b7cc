/*
 * The harness of the C tests. A program runs named tests, each of one behaviour:
 *
 *     static void test_lifo(void) { CHECK(...); CHECK_EQ(a, b); CHECK_STR(s, "..."); }
 *     int main(void)
 *     {
 *         TEST("idle connections are reused last in, first out", test_lifo);
 *         return check_end("pool");
 *     }
 * A test fails when one of its checks does; the others still run. The last line is
 * `name: N passed, N failed`, and the exit status says whether all passed.
 */
#ifndef DBRUN_SPEC_CHECK_H
#define DBRUN_SPEC_CHECK_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct check_state {
    const char *test;
    unsigned passed, failed;
    bool broken; /* a check of the running test failed */
};

/* Weak: all files of a program that include this header share it. */
__attribute__((weak)) struct check_state check_state;

static inline bool check_report(bool ok, const char *file, int line, const char *what)
{
    if (ok)
        return true;
    check_state.broken = true;
    printf("%s:%d: %s: failed: %s\n", file, line, check_state.test ? check_state.test : "-", what);
    fflush(stdout);
    return false;
}

static inline bool check_equal(long long a, long long b, const char *file, int line, const char *what)
{
    char text[256];
    if (a == b)
        return true;
    snprintf(text, sizeof text, "%s: %lld instead of %lld", what, a, b);
    return check_report(false, file, line, text);
}

static inline bool check_text(const char *a, const char *b, const char *file, int line, const char *what)
{
    char text[1024];
    if (a && b && strcmp(a, b) == 0)
        return true;
    snprintf(text, sizeof text, "%s:\n    got      %s\n    expected %s", what, a ? a : "(null)",
             b ? b : "(null)");
    return check_report(false, file, line, text);
}

/* Each is true when the check holds, so that a test can stop: if (!CHECK(p)) return; */
#define CHECK(cond)          check_report((cond), __FILE__, __LINE__, #cond)
#define CHECK_EQ(got, want)  check_equal((long long)(got), (long long)(want), __FILE__, __LINE__, #got)
#define CHECK_STR(got, want) check_text((got), (want), __FILE__, __LINE__, #got)
#define CHECK_NEVER(what)    check_report(false, __FILE__, __LINE__, what)
#define TEST(words, fn)      check_run((words), (fn))

static inline void check_run(const char *words, void (*fn)(void))
{
    check_state.test = words;
    check_state.broken = false;
    fn();
    if (check_state.broken)
        check_state.failed++;
    else
        check_state.passed++;
}

static inline int check_end(const char *name)
{
    printf("%s: %u passed, %u failed\n", name, check_state.passed, check_state.failed);
    return check_state.failed || !check_state.passed ? 1 : 0;
}

/* ---- randomised tests ---- */

/* A number from the environment, or `otherwise`. */
static inline uint64_t check_env(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    char *end;
    if (!text || !*text)
        return otherwise;
    uint64_t n = strtoull(text, &end, 0);
    if (*end) {
        fprintf(stderr, "%s is not a number: %s\n", name, text);
        exit(2);
    }
    return n;
}

/* The seed of this run: DBRUN_TEST_SEED, or the clock's. Printed, so that a failure can be repeated. */
static inline uint64_t check_seed(const char *name)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    uint64_t seed = check_env("DBRUN_TEST_SEED", (uint64_t)ts.tv_sec * 1000003u + (uint64_t)ts.tv_nsec);
    printf("%s: DBRUN_TEST_SEED=%" PRIu64 "\n", name, seed);
    fflush(stdout);
    return seed;
}

/* The number of operations: DBRUN_TEST_OPS, or `otherwise`. Fewer under valgrind. */
static inline uint64_t check_ops(uint64_t otherwise)
{
    return check_env("DBRUN_TEST_OPS", otherwise);
}

/* xorshift64*: the same numbers on every machine for the same seed. */
struct prng {
    uint64_t state;
};

static inline struct prng prng_new(uint64_t seed)
{
    /* One step of splitmix64, so that adjacent seeds (and 0) give unrelated sequences. */
    uint64_t z = seed + UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    z ^= z >> 31;
    return (struct prng){z ? z : 1};
}

static inline uint64_t prng_next(struct prng *r)
{
    r->state ^= r->state >> 12;
    r->state ^= r->state << 25;
    r->state ^= r->state >> 27;
    return r->state * UINT64_C(0x2545f4914f6cdd1d);
}

/* 0 .. n-1 */
static inline uint32_t prng_below(struct prng *r, uint32_t n)
{
    return (uint32_t)((prng_next(r) >> 32) * n >> 32);
}

/* True once in `n` times. */
static inline bool prng_one_in(struct prng *r, uint32_t n)
{
    return prng_below(r, n) == 0;
}

#endif
