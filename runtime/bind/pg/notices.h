/*
 * What an engine calls back in the script: on_connect for each new connection, on_notice for what the server
 * says beside its answers. libpq's callback only copies a notice into a list (no Lua runs there); the list is
 * told in the task whose statement brought it, before that statement returns.
 */
#ifndef DBRUN_BIND_PG_EVENTS_H
#define DBRUN_BIND_PG_EVENTS_H

#include <libpq-fe.h>
#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

struct pg_engine;
struct pg_link;
struct pg_lease;
struct pg_notice;

/* Notices that wait to be told. */
struct pg_notices {
    struct pg_notice *first;
    struct pg_notice *last;
    unsigned n;
    unsigned lost; /* more than the list takes */
};

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

/* Pushes a lease that takes the fresh link over from its owner, on_connect, and the lease as its argument:
 * the caller calls it, and then pg_connected with what came of it. */
struct pg_lease *pg_connect_event(lua_State *L, struct pg_link **owner);
/* Takes the link back from the lease. NULL when on_connect failed: then the connection is closed, and what is
 * to be raised is at the top (an error object, or a message). */
struct pg_link *pg_connected(lua_State *L, struct pg_lease *lease, int status);

/* Says in the log that a result was large, and where. */
void pg_warn_large(lua_State *L, const struct pg_engine *e, size_t bytes, int rows, const char *statement);

#endif
