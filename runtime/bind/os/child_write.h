/*
 * The methods of a child's handle that write to its standard input. A write waits while the pipe is full; the
 * error of an abandoned write says how much was written.
 */
#ifndef DBRUN_BIND_CHILD_WRITE_H
#define DBRUN_BIND_CHILD_WRITE_H

#include "bind/base/runtime.h"
#include "bind/os/child.h"

#define CHILD_CLASS "dbrun.child"

struct child_handle {
    struct child *child; /* NULL = closed */
};

/* The handle at stack index 1; raises for any other value. */
struct child_handle *child_handle_check(lua_State *L);

/* handle:write(text, seconds|nil): waits until the pipe has taken all of it. Returns how much it has taken if
 * the rest cannot be written, because the child blocks in its own write: an output is over its limit. */
int child_handle_write(lua_State *L);
/* handle:feed(text): writes it in the background, then closes the pipe */
int child_handle_feed(lua_State *L);
/* handle:close_stdin(): closes the pipe once the queued writes are done */
int child_handle_close_stdin(lua_State *L);

#endif
