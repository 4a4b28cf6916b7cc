/*
 * Child processes on the loop: their end, their standard streams, killing them. No Lua here.
 *
 * A pipe is read only while there is room: up to the limit, or less for a stdout that the script reads line
 * by line. So a child that writes faster than the script reads blocks in its write(2).
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
#include "bind/os/child_input.h"
#include "io/watch.h"
#include "task/sched.h"

#include <stdint.h>

#define CHILD_KILL_GRACE_S 2.0
/* An interrupted program must end within 2 s, its children included. */
#define CHILD_KILL_GRACE_INTERRUPTED_S 1.0

struct child_set;

/* What a task waits for. */
enum child_want { CHILD_WANT_END, CHILD_WANT_EXIT, CHILD_WANT_LINE };

/* Options of a start beside the program. */
struct child_options {
    bool detached; /* outlives its handle and this process */
    bool paced;    /* its stdout is read line by line, or by a wait for the end */
    size_t limit;  /* most bytes kept of each output; 0 = no limit */
};

struct child_stream {
    struct child *child;
    struct io_watch *watch;
    int fd;         /* -1 = closed, or no pipe */
    struct buf buf; /* what was read */
    size_t off;     /* bytes at the beginning of `buf` that were taken */
};

struct child {
    struct child *next;
    struct child *prev;
    struct child_set *set;
    struct child_input in;
    struct child_stream out[2]; /* stdout, stderr */
    struct child_options opts;
    struct sched_timer kill_timer;
    struct wait *wait; /* the one task that waits for output, or NULL */
    enum child_want want;
    struct wait_queue exits; /* tasks that wait only for the process to end */
    enum child_want asked;   /* what a task last asked for: END (the default) or LINE */
    pid_t pid;
    int status;      /* status of waitpid, once exited; -1 = other code took it */
    bool exited;     /* reaped: the pid may now belong to another process */
    bool discard;    /* its output is read and discarded, so that it can end */
    bool held;       /* a handle points here */
    bool ending;     /* counted as background work of the scheduler */
    size_t searched; /* bytes of stdout that were searched for a line's end */
    char name[64];   /* of the program, for errors */
};

/* NULL (errno set) when it cannot watch child processes. */
struct child_set *child_set_new(struct sched *s);
/* Kills the children that are not detached, and frees everything. */
void child_set_close(struct child_set *set);

/* Starts a child; the caller holds it. NULL: nothing was started, `e` says why. */
struct child *child_start(struct child_set *set, const struct spawn *s, const struct child_options *opts,
                          struct error *e);
/* Releases the handle's hold: a running child that is not detached is terminated in the background. */
void child_release(struct child *c);

/* False (errno set) when the signal could not be sent; ESRCH when the child has ended. */
bool child_kill(struct child *c, int sig);
/* SIGTERM now, SIGKILL after the grace. */
void child_terminate(struct child *c);
/* Reads and discards its output from now on. */
void child_discard(struct child *c);

/* True when the event has happened, or cannot happen because an output is over its limit. END = the child was
 * reaped and its streams are at their end. */
bool child_has(struct child *c, enum child_want want);
/* Records that a task asks for the event. */
void child_ask(struct child *c, enum child_want want);
/* ... and that it waits for it from now on; the wait's data is the child. */
void child_wait(struct child *c, enum child_want want, struct wait *w);
/* Before another task waits: true when a task already waits for output. Any number of tasks can wait for
 * EXIT. */
bool child_is_awaited(const struct child *c, enum child_want want);
/* The `abandon` of these waits. */
void child_abandon(struct wait *w);
/* 1 or 2: the output that is over its limit (for LINE: stdout has a longer line); 0 = none. */
int child_over(struct child *c, enum child_want want);
/* The first line of stdout with its line end, or what is left when the stream has ended; *len 0 = none
 * yet. */
const char *child_line(struct child *c, size_t *len);
/* The captured output of stream 1 or 2 that was not taken yet. */
const char *child_output(struct child *c, int stream, size_t *len);
/* Removes the first `n` bytes of this output. */
void child_take(struct child *c, int stream, size_t n);
/* True when memory ran out while its output was read: the captured output is incomplete. */
bool child_lost_output(const struct child *c);

#endif
