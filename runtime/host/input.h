/*
 * The files that a task may have to wait for, and who reads from them.
 *
 * Each has a struct input. A read that has to wait owns it until its last byte, so that what two tasks read
 * at once is neither mixed nor lost; others queue.
 *
 *   free --STREAM_WAIT--> owned, its task parks --readable--> goes on, and may park again
 *                         owned --all values, an error, cancelled--> owned by the next of the queue, or free
 */
#ifndef DBRUN_HOST_INPUT_H
#define DBRUN_HOST_INPUT_H

#include "bind/base/runtime.h"
#include "io/borrowed.h"
#include "io/stream.h"

/* After so many reads of the descriptor the other tasks have their turn. */
enum { INPUT_READS_AT_ONCE = 16 };

struct input {
    luaL_Stream *of; /* NULL: closed */
    struct stream stream;
    struct io_borrowed *watch; /* opened at the first wait */
    struct reading *owner;
    struct wait_queue queue; /* its waits' data are the readings that come next */
};

/* One call of io.read, or one step of an iterator of io.lines. */
struct reading {
    struct input *in;
    struct wait *wait;        /* while its task is parked */
    struct wait_queue *queue; /* where that stands; NULL: it waits for bytes */
    int file;   /* stack index of the file; the userdata of this stands behind it, then the results */
    int format; /* ... of the next format */
    int last;   /* ... of the last format */
    bool kept;  /* in its userdata: from its first wait on */
    bool begun;
    bool over;
    bool step; /* of an iterator, whose upvalue 2 is Lua's own */
};

/* Makes the classes of inputs and readings. */
void input_open_classes(lua_State *L, struct runtime *rt);
/* The input of the open file at this index; NULL: leave this file to Lua's own functions. */
struct input *input_of(lua_State *L, int file);
/* The input that the value at this index has already, of an open file or not; NULL: none. */
struct input *input_known(lua_State *L, int file);
bool input_is_open(const struct input *in);
/* Before its file is closed: tasks that wait for it are told. */
void input_close(struct input *in);

/* Its task goes on. */
void reading_wake(struct reading *r);
/* Takes the first one out of the queue; NULL: there is none. */
struct reading *reading_pop(struct wait_queue *queue);
/* Moves it into a userdata at its place on the stack, which ends it whatever becomes of the coroutine. */
struct reading *reading_keep(lua_State *L, struct reading *r);
/* The reading is over; what it took and did not settle goes back into the file. */
void reading_release(struct reading *r);

#endif
