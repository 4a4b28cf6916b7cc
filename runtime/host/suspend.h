/*
 * Ctrl-Z and fg while the prompt edits a line. The terminal is in the editor's modes then: they are taken
 * back before the process stops, and set again, with the line as it was, when it goes on. While a statement
 * runs the terminal has its ordinary modes, and SIGTSTP its ordinary effect.
 */
#ifndef DBRUN_HOST_SUSPEND_H
#define DBRUN_HOST_SUSPEND_H

#include "host/editline.h"

#include <uv.h>

struct suspend;

/* NULL: without memory; the others accept that. */
struct suspend *suspend_open(uv_loop_t *loop, const struct editline *edit);
/* Between these two a line is edited. */
void suspend_watch(struct suspend *s);
void suspend_unwatch(struct suspend *s);
void suspend_close(struct suspend *s);

#endif
