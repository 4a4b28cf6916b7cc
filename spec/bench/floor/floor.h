/*
 * Code that the floors share: the clock, the result line, a cheap random number. A floor is the minimum
 * cost of a workload in a plain C program on the same library; dbrun is compared with it.
 */
#ifndef DBRUN_BENCH_FLOOR_H
#define DBRUN_BENCH_FLOOR_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#define ACCOUNTS   100000 /* rows of pgbench_accounts at scale 1 */
#define SELECT_SQL "SELECT abalance FROM pgbench_accounts WHERE aid = $1"

struct floor_clock {
    double wall;
    double cpu;
};

static inline double floor_seconds(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* User and system time of this process so far. */
static inline double floor_cpu(void)
{
    struct rusage ru;
    getrusage(RUSAGE_SELF, &ru);
    return (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) +
           (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
}

static inline struct floor_clock floor_start(void)
{
    struct floor_clock c = {floor_seconds(), floor_cpu()};
    return c;
}

/* Prints the line that the harness reads. */
static inline void floor_report(struct floor_clock start, uint64_t ops, uint64_t errors)
{
    double wall = floor_seconds() - start.wall;
    double cpu = floor_cpu() - start.cpu;
    printf("{\"ops\":%llu,\"seconds\":%.6f,\"cpu_us_per_op\":%.4f,\"errors\":%llu,\"checks\":%llu}\n",
           (unsigned long long)ops, wall, ops ? cpu * 1e6 / (double)ops : 0.0, (unsigned long long)errors,
           (unsigned long long)ops);
}

/* xorshift: an account number, 1 to ACCOUNTS. */
static inline int floor_account(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (int)(*state % ACCOUNTS) + 1;
}

#endif
