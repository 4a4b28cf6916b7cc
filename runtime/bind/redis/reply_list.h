/* The replies of a pipeline as one list of Lua values. Called only in a resumed task, as reply.h says. */
#ifndef DBRUN_BIND_REDIS_REPLY_LIST_H
#define DBRUN_BIND_REDIS_REPLY_LIST_H

#include "base/buf.h"
#include "bind/redis/reply.h"

/* Replaces the list on top of the stack, {answer = ...} for each command that was not sent, by the list of
 * the `n` replies at the cursor in the noted shapes, a byte for each command, with those answers among them.
 * Works on a copy of the shapes, because a finaliser of the script may queue commands meanwhile. */
void redis_reply_list_push(lua_State *L, struct runtime *rt, struct resp_cursor *cur, uint64_t n,
                           const struct buf *noted);

#endif
