/*
 * Child processes on the loop: their end, their standard streams, how they are killed. No Lua here.
 *
 * A pipe is read only while there is room for what comes: up to the limit, and less of a stdout that the
 * script reads line by line. So a child that writes faster than it is read waits in its write(2).
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

/* What a start asks for beside the program. */
struct child_options {
    bool detached; /* lives on after its handle and after this process */
    bool paced;    /* its stdout is read line by line, or by a wait for the end */
    size_t limit;  /* bytes of each output that are kept; 0 = no limit */
};

struct child_stream {
    struct child *child;
    struct io_watch *watch;
    int fd;         /* -1 = closed, or no pipe */
    struct buf buf; /* what was read */
    size_t off;     /* bytes at its beginning that were taken */
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
    struct wait_queue exits; /* those that wait only for the process to end */
    enum child_want asked;   /* for what of its output a task asked last: END, also before any, or LINE */
    pid_t pid;
    int status;      /* of waitpid, once exited; -1 = other code took it */
    bool exited;     /* reaped: the pid may belong to another process */
    bool discard;    /* its output is read and thrown away, so that it can end */
    bool held;       /* a handle points here */
    bool ending;     /* counted as background work of the scheduler */
    size_t searched; /* bytes of stdout that were searched for a line's end */
    char name[64];   /* of the program, for errors */
};

/* NULL (errno set) when it cannot watch for children. */
struct child_set *child_set_new(struct sched *s);
/* Kills the children that are not detached and frees all. */
void child_set_close(struct child_set *set);

/* Starts a child; the caller holds it. NULL: nothing runs, `e` says why. */
struct child *child_start(struct child_set *set, const struct spawn *s, const struct child_options *opts,
                          struct error *e);
/* Releases the handle's hold: a child that runs, and is not detached, is terminated in the background. */
void child_release(struct child *c);

/* False (errno set) when the signal could not be sent; ESRCH when it has ended. */
bool child_kill(struct child *c, int sig);
/* SIGTERM now, SIGKILL after the grace. */
void child_terminate(struct child *c);
/* Reads its output and throws it away from now on. */
void child_discard(struct child *c);

/* Has it happened, or can it not happen because an output is over its limit? END = it was reaped and its
 * streams are at their end. */
bool child_has(struct child *c, enum child_want want);
/* A task asks for it. */
void child_ask(struct child *c, enum child_want want);
/* ... and waits for it from now on; the wait's data is the child. */
void child_wait(struct child *c, enum child_want want, struct wait *w);
/* Before another one waits: does a task wait for output already? Any number may wait for EXIT. */
bool child_is_awaited(const struct child *c, enum child_want want);
/* For these waits: their task gives up. */
void child_abandon(struct wait *w);
/* 1 or 2: the output that is over its limit (for a line: stdout has a longer one); 0 = none. */
int child_over(struct child *c, enum child_want want);
/* The first line of stdout with its end, or what is left when the stream ended; *len 0 = none yet. */
const char *child_line(struct child *c, size_t *len);
/* The captured output of stream 1 or 2 that was not taken yet. */
const char *child_output(struct child *c, int stream, size_t *len);
/* Removes its first `n` bytes. */
void child_take(struct child *c, int stream, size_t n);
/* True when memory was out while its output was read: the captured output is incomplete. */
bool child_lost_output(const struct child *c);

#endif
