/*
 * The pipe to a child's standard input. Nothing is buffered here: a text that is fed belongs to its owner,
 * and a writing task waits while the pipe is full. No Lua here.
 *
 * Tasks write in turn, first in, first out, so that the bytes of one write stay together. A write that is
 * abandoned in the middle cuts the stream: the child would read later bytes as the rest of this write, so all
 * later writes are refused.
 *
 * Who owns what: the child embeds the input, which owns the descriptor and its watch. `fed` is borrowed until
 * the input is closed.
 */
#ifndef DBRUN_BIND_CHILD_INPUT_H
#define DBRUN_BIND_CHILD_INPUT_H

#include "io/watch.h"
#include "task/sched.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum child_input_state {
    CHILD_INPUT_NONE, /* no pipe */
    CHILD_INPUT_OPEN,
    CHILD_INPUT_FED,    /* it gets one text, and is then closed */
    CHILD_INPUT_ENDED,  /* the script has closed it, at once or after the queued writes */
    CHILD_INPUT_BROKEN, /* the child no longer reads it */
};

struct child_input {
    enum child_input_state state;
    int fd; /* -1 = closed, or no pipe */
    struct io_watch *watch;
    const char *fed; /* the rest of the text */
    size_t fed_left;
    bool busy;               /* a task is writing */
    struct wait_queue turns; /* tasks that wait for their turn */
    struct wait *writer;     /* the writing task, while the pipe is full */
    size_t written;          /* bytes that the current write has written */
    size_t cut;              /* not 0: a write was abandoned after this many bytes */
    uint64_t turned;         /* when a write last let the loop run */
};

/* Takes the descriptor (-1 = no pipe). False when out of memory or descriptors. */
bool child_input_open(struct child_input *in, uv_loop_t *loop, int fd);
/* Closes the pipe with this reason, and wakes the writing tasks. */
void child_input_close(struct child_input *in, enum child_input_state why);
/* Writes the text as fast as the child reads it, then closes the pipe. */
void child_input_feed(struct child_input *in, const char *text, size_t len);
/* Closes the pipe when the queued writes are done. */
void child_input_end(struct child_input *in);

/* Writes what the pipe takes; returns the number of bytes, 0 when the pipe is full, -1 when the child no
 * longer reads (the input is then closed). */
ssize_t child_input_write(struct child_input *in, const char *data, size_t len);
/* Ends the task's turn: the next task's begins. */
void child_input_next(struct child_input *in);
/* Makes `w` the writer's wait: woken when the pipe has room, or is closed. */
void child_input_wait(struct child_input *in, struct wait *w);
/* Wakes the writer, because its child may never read again. */
void child_input_wake(struct child_input *in);
/* Abandons the current task's write; the next task's turn begins. */
void child_input_give_up(struct child_input *in);
/* The `abandon` of waits in `turns`, and of the writer's wait. */
void child_input_abandon_turn(struct wait *w);
void child_input_abandon(struct wait *w);

#endif
