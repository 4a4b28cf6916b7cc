/*
 * Blocking waits: poll(2) on one descriptor until a deadline. Used by the sync engine, and by every connect
 * on its worker thread.
 */
#ifndef DBRUN_IO_POLL_H
#define DBRUN_IO_POLL_H

#include <stdbool.h>
#include <stdint.h>

#define IO_READ  1u
#define IO_WRITE 2u

/* How a blocking wait notices that the program must stop. NULL = it cannot be interrupted. */
struct io_interrupt {
    int fd; /* becomes readable when something may have happened; -1 = none */
    bool (*check)(void *data);
    void *data;
};

enum io_status { IO_READY, IO_TIMEOUT, IO_INTERRUPTED, IO_ERROR };

/* Waits until `fd` is ready for `interest` (IO_READ | IO_WRITE). On IO_READY *ready says for what
 * (an error condition counts as both, so that the next read or write reports it); on IO_ERROR
 * errno is set. EINTR is retried with the remaining time. */
enum io_status io_poll(int fd, unsigned interest, uint64_t deadline, const struct io_interrupt *intr,
                       unsigned *ready);

/* True when there is something to read, or the peer has closed. Never waits. */
bool io_poll_readable(int fd);

#endif
