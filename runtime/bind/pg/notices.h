/*
 * on_notice: what the server says beside its answers. libpq's callback only copies a notice into a list (no
 * Lua runs there); the list is told in the task whose statement brought it, before that statement returns.
 */
#ifndef DBRUN_BIND_PG_NOTICES_H
#define DBRUN_BIND_PG_NOTICES_H

#include "bind/pg/notice_list.h"

#include <libpq-fe.h>
#include <lua.h>

struct pg_engine;
struct pg_link;

void pg_notices_clear(struct pg_notices *list);
/* libpq's notice receiver; `data` is the link. */
void pg_notices_receive(void *data, const PGresult *r);
/* Tells what came with a statement on this link. What goes wrong in the handler goes to the log; raises
 * only when the program is interrupted. */
void pg_notices_tell(lua_State *L, struct pg_link *link);
/* Tells what came on connections that several tasks share. */
void pg_notices_tell_shared(lua_State *L, struct pg_engine *e);
/* The link goes back to its pool: a handler of its lease ends. */
void pg_notices_forget(struct pg_link *link);

#endif
