/*
 * Child processes on the loop: reaping, their standard streams, killing with a grace. No Lua here.
 *
 * Who owns what: a set (one per Lua universe) owns the SIGCHLD watch and its children. A child is a
 * block of its own with two holders: the handle that scripts have, and the process until it was
 * reaped; the last one to go frees it. So a handle that is closed early leaves a child that is
 * terminated, killed when it does not listen, reaped and freed without anybody waiting.
 */
#ifndef DBRUN_BIND_CHILD_H
#define DBRUN_BIND_CHILD_H

#include "base/buf.h"
#include "base/spawn.h"
#include "io/watch.h"
#include "task/sched.h"

#include <stdint.h>

#define CHILD_KILL_GRACE_S 2.0
/* An interrupted program has 2 s to end in, its children included. */
#define CHILD_KILL_GRACE_INTERRUPTED_S 1.0

struct child_set;

/* What a task waits for. */
enum child_want { CHILD_WANT_END, CHILD_WANT_EXIT, CHILD_WANT_LINE };

struct child_stream {
    struct child *child;
    struct io_watch *watch;
    int fd;         /* -1 = closed, or no pipe */
    bool close_due; /* stdin: close when all was written */
    struct buf buf; /* stdin: what is to be written; the others: what was read */
    size_t off;     /* bytes at its beginning that are done with */
};

struct child {
    struct child *next;
    struct child *prev;
    struct child_set *set;
    struct child_stream io[3];
    struct sched_timer kill_timer;
    struct wait *wait; /* the one task that waits, or NULL */
    enum child_want want;
    pid_t pid;
    int status;      /* of waitpid, once exited; -1 = somebody else took it */
    bool exited;     /* reaped: the pid is not ours any more */
    bool detached;   /* lives on after its handle and after this process */
    bool held;       /* a handle points here */
    bool ending;     /* counted as background work of the scheduler */
    size_t searched; /* bytes of stdout that were searched for a line's end */
};

/* NULL (errno set) when it cannot watch for children. */
struct child_set *child_set_new(struct sched *s);
/* Kills what is not detached and lets go of the rest. */
void child_set_close(struct child_set *set);

/* Starts a child; the caller holds it. NULL: nothing runs, `e` says why. */
struct child *child_start(struct child_set *set, const struct spawn *s, bool detached, struct error *e);
/* The handle is gone: what still runs, and is not detached, is terminated in the background. */
void child_release(struct child *c);

/* Queues bytes for its stdin. False when memory is out. Bytes for a child that closed its end vanish. */
bool child_write(struct child *c, const char *data, size_t len);
/* Closes its stdin as soon as what was queued is written. */
void child_close_stdin(struct child *c);

/* False (errno set) when the signal could not be sent; ESRCH when it has ended. */
bool child_kill(struct child *c, int sig);
/* SIGTERM now, SIGKILL after the grace. */
void child_terminate(struct child *c);

/* Has what is wanted come? END = it was reaped and its streams are at their end. */
bool child_has(struct child *c, enum child_want want);
/* The first line of stdout with its end, or what is left when the stream ended; *len 0 = none yet. */
const char *child_line(struct child *c, size_t *len);
/* What was captured of stream 1 or 2 and not taken yet. */
const char *child_output(const struct child *c, int stream, size_t *len);
/* Takes the first `n` bytes of it away. */
void child_take(struct child *c, int stream, size_t n);
/* True when memory was out while its output was read: what was captured is not whole. */
bool child_lost_output(const struct child *c);

#endif
