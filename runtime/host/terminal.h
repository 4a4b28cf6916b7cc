/*
 * Whose the terminal is: while the prompt edits a line it alone reads it. Reads of tasks wait, and go on when
 * a statement runs, or the prompt has ended.
 */
#ifndef DBRUN_HOST_TERMINAL_H
#define DBRUN_HOST_TERMINAL_H

#include "task/sched.h"

#include <stdbool.h>

/* The prompt reads this terminal from now on. */
void terminal_hold(int fd);
/* Wakes the reads that wait for it. */
void terminal_release(void);
/* Is this the terminal that the prompt reads now? */
bool terminal_is_held(int fd);
/* Where the waits of these reads stand; their data are struct reading. */
struct wait_queue *terminal_queue(void);

#endif
