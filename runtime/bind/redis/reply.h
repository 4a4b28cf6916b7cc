/*
 * Makes Lua values from replies. Called only in a resumed task: everything here may raise "not enough
 * memory", so the reply must have an owner that frees it then.
 */
#ifndef DBRUN_BIND_REDIS_REPLY_H
#define DBRUN_BIND_REDIS_REPLY_H

#include "bind/redis/command.h"
#include "redis/resp.h"

/* No shape, but the reply as it came: a status reply is {status = "OK"}, and nil in a list is core.null. */
#define REDIS_SHAPE_TYPED ((redis_shape_id)255)
/* No reply of the server: of a command that a dry run has answered. */
#define REDIS_SHAPE_TOLD ((redis_shape_id)254)

/* Pushes the next value at the cursor in this shape. Error replies become error objects. False: it is nested
 * too deep for Lua, and an error object that says so was pushed in its place. */
bool redis_reply_push(lua_State *L, struct runtime *rt, struct resp_cursor *c, redis_shape_id shape);
/* The same for a value whose `item` was read from the cursor already. */
bool redis_reply_push_item(lua_State *L, struct runtime *rt, struct resp_cursor *c,
                           const struct resp_item *item, redis_shape_id shape);
/* Lua cannot count a list that ends with nil. When the last of the `n` elements of the list on top of the
 * stack is nil, this gives it a metatable by which its length (#) and its field `n` are `n`. */
void redis_reply_count(lua_State *L, uint64_t n);
/* Pushes a float from the text that Redis prints for it; any other text as it is. */
void redis_reply_push_float(lua_State *L, const char *s, size_t size);
/* Sets `e` from an error reply; the caller clears it. */
void redis_reply_error(const struct resp_item *item, const char *command, struct error *e);

#endif
