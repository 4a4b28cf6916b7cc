/*
 * Who may read the terminal: only the prompt while it edits a line. Reads by tasks wait, and continue when a
 * statement runs or the prompt has ended.
 */
#ifndef DBRUN_HOST_TERMINAL_H
#define DBRUN_HOST_TERMINAL_H

#include "task/sched.h"

#include <stdbool.h>

/* From now on only the prompt reads this terminal. */
void terminal_hold(int fd);
/* Ends this, and wakes the waiting reads. */
void terminal_release(void);
/* True when the prompt reads this terminal now. */
bool terminal_is_held(int fd);
/* The queue of the waits of these reads; their data are struct reading. */
struct wait_queue *terminal_queue(void);

#endif
