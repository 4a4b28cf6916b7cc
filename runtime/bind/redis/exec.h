/* Reads the replies to a transaction: whether it was begun, its commands were accepted, and it ran. */
#ifndef DBRUN_BIND_REDIS_EXEC_H
#define DBRUN_BIND_REDIS_EXEC_H

#include "bind/redis/session.h"

/* What the replies before the reply to EXEC say. */
struct redis_queued {
    struct resp_item multi; /* the reply to MULTI */
    struct resp_item cause; /* the first error; RESP_NIL: none */
    bool accepted;          /* at least one command was not refused */
};

/* Reads `n` replies at the cursor; the reply to MULTI comes after `multi` of them. */
struct redis_queued redis_queued_read(struct resp_cursor *cur, uint32_t n, uint32_t multi);
/* Raises, after redis_taken, unless `item`, the reply to EXEC, is nil or a list of `commands` replies. */
void redis_exec_check(lua_State *L, struct session_call *c, const struct resp_item *item,
                      const struct redis_queued *queued, uint32_t commands);

#endif
