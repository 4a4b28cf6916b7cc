#include "base/deadline.h"

#include <limits.h>
#include <time.h>

static uint64_t read_clock(clockid_t clock)
{
    struct timespec ts;
    clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

uint64_t mono_now(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t mono_coarse(void)
{
    return read_clock(CLOCK_MONOTONIC_COARSE);
}

uint64_t duration_ns(double seconds)
{
    /* 2^33 seconds are 272 years: far beyond any wait, and far below overflow. */
    if (!(seconds < 8589934592.0))
        return DEADLINE_NEVER;
    return seconds > 0 ? (uint64_t)(seconds * (double)NS_PER_S) : 0;
}

uint64_t deadline_in(double seconds)
{
    return deadline_after(mono_now(), duration_ns(seconds));
}

uint64_t deadline_after(uint64_t deadline, uint64_t ns)
{
    return ns < DEADLINE_NEVER - deadline ? deadline + ns : DEADLINE_NEVER;
}

uint64_t deadline_min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

int deadline_poll_ms(uint64_t deadline)
{
    if (deadline == DEADLINE_NEVER)
        return -1;
    uint64_t now = mono_now();
    if (deadline <= now)
        return 0;
    uint64_t ms = (deadline - now - 1) / NS_PER_MS + 1;
    return ms > INT_MAX ? INT_MAX : (int)ms;
}
