/*
 * Waits on the loop: calls back when a descriptor is ready. Watches for reading all the time; for writing
 * only while a socket is full.
 *
 * The handle is a separate block that its close callback frees, so a connection can be closed from inside its
 * own callback. io_watch_close comes before close(2) of the descriptor; if a library closes it first, the
 * watch gets no more events, and is dropped when another descriptor gets the same number.
 */
#ifndef DBRUN_IO_WATCH_H
#define DBRUN_IO_WATCH_H

#include "io/poll.h"

#include <uv.h>

struct io_watch;

/* `ready` runs on the loop; it runs no Lua. NULL when out of memory or descriptors. */
struct io_watch *io_watch_open(uv_loop_t *loop, int fd, void (*ready)(void *data, unsigned events),
                               void *data);
/* What to wait for: IO_READ, IO_WRITE, both, or 0 (back-pressure). Cheap when nothing changes. */
void io_watch_want(struct io_watch *d, unsigned interest);
/* No callback comes after this has returned. NULL is harmless. */
void io_watch_close(struct io_watch *d);

#endif
