/*
 * The file of the trace: lines are collected and written 64 KiB at a time, and each second by a thread, so
 * that a program that hangs or is killed has left what it did. What is not a line by then, `fill` makes one.
 *
 * A failed write is noted, what comes then is dropped, and the program goes on.
 */
#ifndef DBRUN_TRACE_FILE_H
#define DBRUN_TRACE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct trace_file;

/* Makes the file (mode 0600) with its first lines, in the place of one that is there; what a link leads to is
 * replaced, a device or a pipe of one's own is written to. NULL, and errno, when that fails: what was there
 * stays. */
struct trace_file *trace_file_open(const char *path, const char *first, size_t len);
/* Starts the thread. It calls `fill` with the lock, as trace_file_rescue does without: that puts lines. */
void trace_file_start(struct trace_file *f, void (*fill)(void *data), void *data);
/* Lets the thread do its work now. */
void trace_file_wake(struct trace_file *f);
/* Lines are put with the lock. */
void trace_file_lock(struct trace_file *f);
void trace_file_unlock(struct trace_file *f);
/* Room for lines of at most `most` bytes; NULL: they are not wanted any more. They end with trace_file_end.
 */
char *trace_file_begin(struct trace_file *f, size_t most);
/* The last line ends at `at`. */
void trace_file_end(struct trace_file *f, const char *at);
/* Bytes of all lines so far. */
uint64_t trace_file_size(const struct trace_file *f);
bool trace_file_has_failed(const struct trace_file *f);
/* Why a write has failed (an errno), once; 0: none has, or it was asked for. */
int trace_file_failure(struct trace_file *f);
/* Writes what there is, in the handler of a signal after which the process ends: async-signal-safe. */
void trace_file_rescue(struct trace_file *f);
/* Around a fork, so that the child does not find the lock taken. The child writes nothing. */
void trace_file_before_fork(struct trace_file *f);
void trace_file_after_fork(struct trace_file *f, bool child);
/* Ends the thread, writes what there is and closes the file; the errno of a failure that was not told, or 0.
 */
int trace_file_close(struct trace_file *f);

#endif
