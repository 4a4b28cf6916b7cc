/*
 * The file of the trace: lines are collected and written 64 KiB at a time, and each second by a thread, so
 * that the file of a program that hangs or is killed is nearly complete. `fill` makes lines of the remaining
 * records.
 *
 * After a failed write, later lines are dropped and the program goes on.
 */
#ifndef DBRUN_TRACE_FILE_H
#define DBRUN_TRACE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct trace_file;

/* Creates the file (mode 0600) with its first lines, and replaces an existing file, also the target of a
 * link; writes to a device or to a pipe of this user. NULL, with errno, on failure: an existing file
 * stays. */
struct trace_file *trace_file_open(const char *path, const char *first, size_t len);
/* Starts the thread. `fill` adds lines: the thread calls it with the lock, trace_file_rescue without it. */
void trace_file_start(struct trace_file *f, void (*fill)(void *data), void *data);
/* Wakes the thread. */
void trace_file_wake(struct trace_file *f);
/* Lines are added with the lock held. */
void trace_file_lock(struct trace_file *f);
void trace_file_unlock(struct trace_file *f);
/* Room for lines of at most `most` bytes, which end with trace_file_end; NULL: no more lines are written. */
char *trace_file_begin(struct trace_file *f, size_t most);
/* Ends the lines; the last one ends at `at`. */
void trace_file_end(struct trace_file *f, const char *at);
/* Bytes of all lines so far. */
uint64_t trace_file_size(const struct trace_file *f);
bool trace_file_has_failed(const struct trace_file *f);
/* The errno of the failed write, returned once; 0: none has failed, or it was already returned. */
int trace_file_failure(struct trace_file *f);
/* Writes what there is, in a signal handler that ends the process: async-signal-safe. */
void trace_file_rescue(struct trace_file *f);
/* Around a fork, so that the child does not find the lock taken. The child writes nothing. */
void trace_file_before_fork(struct trace_file *f);
void trace_file_after_fork(struct trace_file *f, bool child);
/* Ends the thread, writes what there is and closes the file. Returns the errno of a failure that was not
 * returned before, or 0. */
int trace_file_close(struct trace_file *f);

#endif
