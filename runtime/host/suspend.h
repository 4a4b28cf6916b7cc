/*
 * Ctrl-Z and fg while the prompt edits a line. The terminal is then in the editor's modes: they are reset
 * before the process stops, and set again, with the line unchanged, when it continues. While a statement
 * runs, the terminal has its ordinary modes, and SIGTSTP its default effect.
 */
#ifndef DBRUN_HOST_SUSPEND_H
#define DBRUN_HOST_SUSPEND_H

#include "host/editline.h"

#include <uv.h>

struct suspend;

/* NULL when out of memory, which the other functions accept. */
struct suspend *suspend_open(uv_loop_t *loop, const struct editline *edit);
/* Call them before and after a line is edited. */
void suspend_watch(struct suspend *s);
void suspend_unwatch(struct suspend *s);
void suspend_close(struct suspend *s);

#endif
