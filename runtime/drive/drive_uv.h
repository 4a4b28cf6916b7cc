/*
 * The loop's driver: tells when a descriptor is ready. It is armed for reading once and left armed;
 * interest in writing is added only while a socket is full.
 *
 * The handle lives in a block of its own that its last close callback frees, so a connection can be
 * torn down from inside its own callback. drive_uv_close comes before close(2) of the descriptor.
 */
#ifndef DBRUN_DRIVE_UV_H
#define DBRUN_DRIVE_UV_H

#include "drive/drive_poll.h"

#include <uv.h>

struct drive_uv;

/* `ready` runs on the loop; it runs no Lua. NULL when memory or descriptors are out. */
struct drive_uv *drive_uv_open(uv_loop_t *loop, int fd, void (*ready)(void *data, unsigned events),
                               void *data);
/* What to wait for: IO_READ, IO_WRITE, both, or 0 (back-pressure). Cheap when nothing changes. */
void drive_uv_want(struct drive_uv *d, unsigned interest);
/* No callback comes any more once this returns. NULL is harmless. */
void drive_uv_close(struct drive_uv *d);

#endif
