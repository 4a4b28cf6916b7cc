/*
 * on_notice: the script's handler for the server's notices. libpq's callback only copies a notice into a list
 * (no Lua runs there); the task whose statement caused the notices calls the handler before that statement
 * returns. With pipeline=, the next task whose statement ends calls it.
 */
#ifndef DBRUN_BIND_PG_NOTICES_H
#define DBRUN_BIND_PG_NOTICES_H

#include "bind/pg/notice_list.h"
#include "pg/libpq.h"

#include <lua.h>

struct pg_engine;
struct pg_link;

void pg_notices_clear(struct pg_notices *list);
/* libpq's notice receiver; `data` is the link. */
void pg_notices_receive(void *data, const PGresult *r);
/* Calls the handler for the notices that came with a statement on this link. An error of the handler goes to
 * the log; raises only when the program is interrupted. */
void pg_notices_tell(lua_State *L, struct pg_link *link);
/* Calls the engine's handler for the notices that came on shared connections. */
void pg_notices_tell_shared(lua_State *L, struct pg_engine *e);
/* Removes the lease's handler and notices when the link returns to its pool. */
void pg_notices_forget(struct pg_link *link);

#endif
