/*
 * The pipe to a child's standard input. Memory holds nothing of what is written: a text that is fed belongs
 * to its owner, and a task that writes waits while the pipe is full. No Lua here.
 *
 * Tasks that write take turns, first in, first out, so that the bytes of one write stay together. A write
 * that is given up in the middle cuts the stream: what the child reads next would be taken for the rest of
 * it, so that all later writes are refused.
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
    CHILD_INPUT_FED,    /* it gets one text, and is closed then */
    CHILD_INPUT_ENDED,  /* the script has closed it, at once or behind the writes that wait */
    CHILD_INPUT_BROKEN, /* the child does not read it any more */
};

struct child_input {
    enum child_input_state state;
    int fd; /* -1 = closed, or no pipe */
    struct io_watch *watch;
    const char *fed; /* what is left of the text */
    size_t fed_left;
    bool busy;               /* a task has its turn */
    struct wait_queue turns; /* tasks that wait for theirs */
    struct wait *writer;     /* the task whose turn it is, while the pipe is full */
    size_t written;          /* bytes of the write whose turn it is */
    size_t cut;              /* not 0: a write was given up behind so many bytes */
    uint64_t turned;         /* when a write last let the loop turn */
};

/* Takes the descriptor (-1 = no pipe). False when memory or descriptors are out. */
bool child_input_open(struct child_input *in, uv_loop_t *loop, int fd);
/* Closes it with this reason, and wakes the tasks that write. */
void child_input_close(struct child_input *in, enum child_input_state why);
/* Writes the text as the child reads it, and closes then. */
void child_input_feed(struct child_input *in, const char *text, size_t len);
/* Closes it when the writes that wait are done. */
void child_input_end(struct child_input *in);

/* Writes what the pipe takes: the number of bytes, 0 when it is full, -1 when the child does not read any
 * more (the input is closed then). */
ssize_t child_input_write(struct child_input *in, const char *data, size_t len);
/* The task's turn is over: the next one's begins. */
void child_input_next(struct child_input *in);
/* The wait becomes that of the writer: it is woken when the pipe has room, or is closed. */
void child_input_wait(struct child_input *in, struct wait *w);
/* Wakes the writer: its child may not read again. */
void child_input_wake(struct child_input *in);
/* The task whose turn it is gives its write up; the next one's begins. */
void child_input_give_up(struct child_input *in);
/* For waits of `turns` and of the writer: their task gives its write up. */
void child_input_abandon_turn(struct wait *w);
void child_input_abandon(struct wait *w);

#endif
