/*
 * Makes Lua values from replies. Called only in a resumed task: everything here can raise "not enough
 * memory", so the reply must have an owner that then frees it.
 */
#ifndef DBRUN_BIND_REDIS_REPLY_H
#define DBRUN_BIND_REDIS_REPLY_H

#include "bind/redis/command.h"
#include "redis/resp.h"

/* No shape, but the reply with its types: a status reply is {status = "OK"}, and nil in a list is
 * core.null. */
#define REDIS_SHAPE_TYPED ((redis_shape_id)255)
/* No reply of the server: a command that a dry run has answered. */
#define REDIS_SHAPE_TOLD ((redis_shape_id)254)

/* Pushes the next value at the cursor in this shape. Error replies become error objects. False: the value is
 * nested too deeply for Lua, and an error object that says so was pushed instead. */
bool redis_reply_push(lua_State *L, struct runtime *rt, struct resp_cursor *c, redis_shape_id shape);
/* The same for a value whose `item` was already read from the cursor. */
bool redis_reply_push_item(lua_State *L, struct runtime *rt, struct resp_cursor *c,
                           const struct resp_item *item, redis_shape_id shape);
/* Lua cannot count a list that ends with nil. If the last of the `n` elements of the list on top of the stack
 * is nil, sets a metatable that makes its length (#) and its field `n` equal to `n`. */
void redis_reply_count(lua_State *L, uint64_t n);
/* Pushes a float from the text that Redis prints for it; pushes any other text unchanged. */
void redis_reply_push_float(lua_State *L, const char *s, size_t size);
/* Sets `e` from an error reply; the caller clears it. */
void redis_reply_error(const struct resp_item *item, const char *command, struct error *e);

#endif
