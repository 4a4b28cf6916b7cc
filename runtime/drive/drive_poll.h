/*
 * The blocking driver: waits for one descriptor with poll(2) until a deadline. Used by the sync
 * engine, and by every connect on its worker thread.
 */
#ifndef DBRUN_DRIVE_POLL_H
#define DBRUN_DRIVE_POLL_H

#include <stdbool.h>
#include <stdint.h>

#define IO_READ  1u
#define IO_WRITE 2u

/* How a blocking wait notices that the program is to stop. NULL where nothing can interrupt. */
struct drive_interrupt {
    int fd; /* becomes readable when something may have happened; -1 = none */
    bool (*check)(void *data);
    void *data;
};

enum drive_status { DRIVE_READY, DRIVE_TIMEOUT, DRIVE_INTERRUPTED, DRIVE_ERROR };

/* Waits until `fd` is ready for `interest` (IO_READ | IO_WRITE). On DRIVE_READY *ready says for what
 * (an error condition counts as both, so that the next read or write reports it); on DRIVE_ERROR
 * errno is set. EINTR is retried with the remaining time. */
enum drive_status drive_poll(int fd, unsigned interest, uint64_t deadline, const struct drive_interrupt *intr,
                             unsigned *ready);

/* Is something to read, or the peer gone, right now? Never waits. */
bool drive_poll_readable(int fd);

#endif
