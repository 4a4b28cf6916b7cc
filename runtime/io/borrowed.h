/*
 * Waits on the loop for a descriptor that other processes may share, as standard input is. libuv makes a
 * watched descriptor non-blocking, which would affect all these processes; so it watches a private epoll
 * descriptor instead, and the flags of the shared one stay unchanged.
 */
#ifndef DBRUN_IO_BORROWED_H
#define DBRUN_IO_BORROWED_H

#include "io/watch.h"

struct io_borrowed;

/* `ready` runs on the loop when `fd` is readable, or its peer has closed; it runs no Lua. NULL: errno says
 * why; EPERM for a descriptor on which reads never wait (a regular file). Does not watch yet. */
struct io_borrowed *io_borrowed_open(uv_loop_t *loop, int fd, void (*ready)(void *data, unsigned events),
                                     void *data);
void io_borrowed_want(struct io_borrowed *b, bool wanted);
/* No callback comes after this has returned. The descriptor stays open. NULL is harmless. */
void io_borrowed_close(struct io_borrowed *b);

#endif
