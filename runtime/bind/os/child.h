/*
 * Child processes on the loop: their end, their standard streams, how they are killed. No Lua here.
 *
 * Who owns what: a set (one per Lua universe) owns the SIGCHLD watch and its children. A child has two
 * holders: the script's handle, and the process until it is reaped; the last one frees it. So a child
 * whose handle is closed early is terminated, killed if it does not end, reaped and freed in the
 * background.
 */
#ifndef DBRUN_BIND_CHILD_H
#define DBRUN_BIND_CHILD_H

#include "base/buf.h"
#include "base/spawn.h"
#include "io/watch.h"
#include "task/sched.h"

#include <stdint.h>

#define CHILD_KILL_GRACE_S 2.0
/* An interrupted program must end within 2 s, its children included. */
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
    size_t off;     /* bytes at its beginning that are written or taken */
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
    int status;      /* of waitpid, once exited; -1 = other code took it */
    bool exited;     /* reaped: the pid may belong to another process */
    bool detached;   /* lives on after its handle and after this process */
    bool held;       /* a handle points here */
    bool ending;     /* counted as background work of the scheduler */
    size_t searched; /* bytes of stdout that were searched for a line's end */
};

/* NULL (errno set) when it cannot watch for children. */
struct child_set *child_set_new(struct sched *s);
/* Kills the children that are not detached and frees all. */
void child_set_close(struct child_set *set);

/* Starts a child; the caller holds it. NULL: nothing runs, `e` says why. */
struct child *child_start(struct child_set *set, const struct spawn *s, bool detached, struct error *e);
/* Releases the handle's hold: a child that runs, and is not detached, is terminated in the background. */
void child_release(struct child *c);

/* Queues bytes for its stdin; ignored when the child has closed it. False when memory is out. */
bool child_write(struct child *c, const char *data, size_t len);
/* Closes its stdin as soon as what was queued is written. */
void child_close_stdin(struct child *c);

/* False (errno set) when the signal could not be sent; ESRCH when it has ended. */
bool child_kill(struct child *c, int sig);
/* SIGTERM now, SIGKILL after the grace. */
void child_terminate(struct child *c);

/* Has it happened? END = it was reaped and its streams are at their end. */
bool child_has(struct child *c, enum child_want want);
/* The first line of stdout with its end, or what is left when the stream ended; *len 0 = none yet. */
const char *child_line(struct child *c, size_t *len);
/* The captured output of stream 1 or 2 that was not taken yet. */
const char *child_output(struct child *c, int stream, size_t *len);
/* Removes its first `n` bytes. */
void child_take(struct child *c, int stream, size_t n);
/* True when memory was out while its output was read: the captured output is incomplete. */
bool child_lost_output(const struct child *c);

#endif
