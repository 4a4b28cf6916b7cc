/*
 * Points in time on the monotonic clock, in nanoseconds.
 *
 * A deadline is an absolute point; DEADLINE_NEVER stands for "no limit". Nothing here looks at the
 * wall clock, so setting the system's time never moves a deadline.
 */
#ifndef DBRUN_BASE_DEADLINE_H
#define DBRUN_BASE_DEADLINE_H

#include <stdint.h>

#define DEADLINE_NEVER UINT64_MAX
#define NS_PER_S       UINT64_C(1000000000)
#define NS_PER_MS      UINT64_C(1000000)

/* Now, in nanoseconds on CLOCK_MONOTONIC. */
uint64_t mono_now(void);
/* The same to within one tick of the kernel's clock (at most 10 ms behind, never ahead), four times as
 * fast. */
uint64_t mono_coarse(void);

/* `seconds` in nanoseconds. Negative counts as 0; NaN and more than 272 years as DEADLINE_NEVER. */
uint64_t duration_ns(double seconds);

/* The deadline `seconds` from now, converted as duration_ns does. */
uint64_t deadline_in(double seconds);

/* The deadline `ns` later. DEADLINE_NEVER when that overflows, or when `deadline` is DEADLINE_NEVER. */
uint64_t deadline_after(uint64_t deadline, uint64_t ns);

/* The earlier of two deadlines. */
uint64_t deadline_min(uint64_t a, uint64_t b);

/* Milliseconds to wait until `deadline`, rounded up so that a wait never ends too early: 0 when it
 * has passed, -1 for DEADLINE_NEVER. Fits poll(2). */
int deadline_poll_ms(uint64_t deadline);

#endif
