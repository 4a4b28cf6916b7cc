/*
 * Files on which a read may have to wait, and the tasks that read from them.
 *
 * Each such file has a struct input. A read that has to wait owns it until its last byte, so that the data of
 * two reading tasks is neither mixed nor lost; other reads queue.
 *
 *   free --STREAM_WAIT--> owned, its task parks --readable--> goes on, and may park again
 *                         owned --all values, an error, cancelled--> owned by the next of the queue, or free
 */
#ifndef DBRUN_HOST_INPUT_H
#define DBRUN_HOST_INPUT_H

#include "bind/base/runtime.h"
#include "io/borrowed.h"
#include "io/stream.h"

/* After this many reads of the descriptor the other tasks get their turn. */
enum { INPUT_READS_AT_ONCE = 16 };

struct input {
    luaL_Stream *of; /* NULL: closed */
    struct stream stream;
    struct io_borrowed *watch; /* opened at the first wait */
    struct reading *owner;
    struct wait_queue queue; /* the waits of the next readings, which are their data */
};

/* One call of io.read, or one step of an iterator of io.lines. */
struct reading {
    struct input *in;
    struct wait *wait;        /* while its task is parked */
    struct wait_queue *queue; /* the queue with that wait; NULL: it waits for bytes */
    int file;   /* stack index of the file; then follow the userdata of this reading and the results */
    int format; /* stack index of the next format */
    int last;   /* stack index of the last format */
    bool kept;  /* kept in its userdata, from its first wait on */
    bool begun;
    bool over;
    bool step; /* a step of an iterator, whose upvalue 2 is Lua's own iterator */
};

/* Makes the classes of inputs and readings. */
void input_open_classes(lua_State *L, struct runtime *rt);
/* The input of the open file at this index; NULL: use Lua's own functions for this file. */
struct input *input_of(lua_State *L, int file);
/* The existing input of the value at this index, an open file or not; NULL: none. */
struct input *input_known(lua_State *L, int file);
bool input_is_open(const struct input *in);
/* Call it before the file is closed: wakes the tasks that wait for it. */
void input_close(struct input *in);

/* Wakes its task. */
void reading_wake(struct reading *r);
/* Removes and returns the first reading of the queue; NULL: none. */
struct reading *reading_pop(struct wait_queue *queue);
/* Moves the reading into a userdata at its place on the stack, which ends the reading even if the coroutine
 * is never resumed. */
struct reading *reading_keep(lua_State *L, struct reading *r);
/* Ends the reading; what it took and did not settle goes back into the file. */
void reading_release(struct reading *r);

#endif
