/* The replies of a pipeline as one list of Lua values. Called only in a resumed task, as reply.h says. */
#ifndef DBRUN_BIND_REDIS_REPLY_LIST_H
#define DBRUN_BIND_REDIS_REPLY_LIST_H

#include "base/buf.h"
#include "bind/redis/reply.h"

/* On top of the stack is a list with {answer = ...} for each command that was not sent. Replaces it by the
 * list of these answers and the `n` replies at the cursor, in the order of the commands. `noted` has the
 * shape of each command in a byte; it is copied first, because a finaliser of the script may queue commands
 * meanwhile. */
void redis_reply_list_push(lua_State *L, struct runtime *rt, struct resp_cursor *cur, uint64_t n,
                           const struct buf *noted);

#endif
