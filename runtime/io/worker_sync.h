/*
 * For the sync engine: runs a function that may block without limit on its own thread; the caller blocks
 * until it returns, but no longer than the deadline.
 */
#ifndef DBRUN_IO_WORKER_SYNC_H
#define DBRUN_IO_WORKER_SYNC_H

#include "io/poll.h"

/* IO_READY: work(arg) has returned, and the caller owns `arg` again. IO_ERROR: it was never started (no
 * thread, no descriptor: errno says), and the caller still owns `arg`. Otherwise it still runs (IO_TIMEOUT
 * also when poll(2) itself fails): drop(arg) is called on its thread when it returns, and the caller must not
 * touch `arg` any more. */
enum io_status worker_call(void (*work)(void *arg), void (*drop)(void *arg), void *arg, uint64_t deadline,
                           const struct io_interrupt *intr);

#endif
