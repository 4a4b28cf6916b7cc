/*
 * The userdata of core.redis, and the functions that run commands on them.
 *
 * Who owns what: each handle holds one counted reference to its session, taken after the userdata has its
 * metatable; NULL = closed or not made yet.
 */
#ifndef DBRUN_BIND_REDIS_HANDLE_H
#define DBRUN_BIND_REDIS_HANDLE_H

#include "bind/redis/command.h"
#include "bind/redis/session.h"

#include "base/deadline.h"

#include <math.h>

#define REDIS_POOL_CLASS   "dbrun.redis.pool"
#define REDIS_CLIENT_CLASS "dbrun.redis.client"
#define REDIS_CONN_CLASS   "dbrun.redis.connection"
#define REDIS_BATCH_CLASS  "dbrun.redis.pipeline"

/* A client or a dedicated connection. */
struct redis_handle {
    struct redis_session *session;
    double timeout; /* for each command, in seconds; HUGE_VAL = none */
    uint64_t until; /* one deadline for all commands of a call; DEADLINE_NEVER = none */
    bool repeat;    /* after a lost connection, commands that may have run are sent again */
    bool typed;     /* replies keep their types: REDIS_SHAPE_TYPED in reply.h */
};

/* True when the value is a client or a dedicated connection. */
bool redis_is_handle(lua_State *L, int idx);
/* Raises: the command's method was called on a value that is not a client (or not of `class`). */
int redis_wrong_self(lua_State *L, const char *class, const struct redis_command *cmd);
/* Pushes a handle without a session. */
struct redis_handle *redis_push_handle(lua_State *L, const char *class);
/* The handle at `idx`; raises when the value there is no handle, or is closed. */
struct redis_handle *redis_check_handle(lua_State *L, int idx);
/* Raises: the dedicated connection was lost before this call, so that nothing was sent. */
int redis_raise_lost(lua_State *L, const struct redis_session *s);
/* True when it is open, and its commands need not check for room. */
static inline bool redis_is_usual(const struct redis_handle *h)
{
    return h->session && !h->session->unusual && (h->session->shared || h->session->link);
}
static inline bool redis_is_open(const struct redis_handle *h)
{
    return h->session && !h->session->closed && (h->session->shared || h->session->link);
}

/* The deadline of a command that begins now and can block for `block` seconds in addition (< 0: not at all;
 * 0: without limit). */
uint64_t redis_handle_deadline(const struct redis_handle *h, double block);
/* True when a call of several commands has no time left for the next one. */
static inline bool redis_is_over(const struct redis_handle *h)
{
    return h->until != DEADLINE_NEVER && h->until <= mono_now();
}
/* links() -> serial number of the current connection (0: none), serial number of the connection whose reply a
 * task took last (0: none), a light userdata that identifies the pool, number of the database. Never raises
 * for a handle, also a closed one. */
int redis_handle__links(lua_State *L);

/* Issues the command, and parks the task; then k continues with the struct wait as its context. */
int redis_park(lua_State *L, struct redis_session *s, const struct redis_request *r, lua_KFunction k);
/* What is decided about a command before it is written. */
struct redis_terms {
    uint64_t deadline;
    redis_shape_id shape;
    bool blocks;
};
/* Parks the task until `size` bytes can be queued; then k continues and first calls redis_room_given. */
int redis_park_for_room(lua_State *L, struct redis_session *s, size_t size, const struct redis_terms *terms,
                        lua_KFunction k);
/* For k: returns the terms that were passed to redis_park_for_room. Raises when there was no room until the
 * deadline. */
struct redis_terms redis_room_given(lua_State *L, struct redis_session *s, lua_KContext ctx,
                                    const char *what);
/* Raises: the deadline has passed, and `what` was not answered, or with OUTCOME_NOT_SENT not sent. */
int redis_raise_timeout(lua_State *L, struct redis_session *s, enum error_outcome outcome, const char *what);
/* Pushes a client with the settings and the session of `from`, whose commands must all end by `stop`. */
void redis_push_until(lua_State *L, const struct redis_handle *from, uint64_t stop);
/* Raises: an earlier step of the call has used up the time, so `what` was not sent. */
int redis_raise_over(lua_State *L, const struct redis_session *s, const char *what);
/* For k: the answered call, to be released by redis_taken. Raises when the call was not answered; `what` is
 * the command's name for the error. */
struct session_call *redis_answer(lua_State *L, struct redis_session *s, lua_KContext ctx, const char *what);
void redis_taken(struct session_call *c);

/* ---- time limits, and dedicated connections (acquire.c) ---- */

/* client:acquire() -> connection */
int redis_acquire__own(lua_State *L);
/* client:__acquire(what) -> connection, within the deadline of the command or transaction that needs it */
int redis_acquire__within(lua_State *L);
/* __until([stop]) -> handle, stop: the same client, whose commands must all end by `stop` on the clock of
 * task.now(); default: the deadline of a call that begins now; math.huge: none. Changes a dedicated
 * connection itself instead. */
int redis_acquire__until(lua_State *L);

/* ---- pools (pool_methods.c) ---- */

/* The pool at `idx`; raises when the value there is no pool, or is closed. */
struct redis_pool *redis_check_pool(lua_State *L, int idx);
/* pool_new{host=, port=, path=, ..., max_connections=, timeout=, full_is_error=, ...} -> pool */
int redis_pool__new(lua_State *L);
/* pool_bare(client) -> pool, timeout, typed: for a command that must not wait for other connections */
int redis_pool__bare(lua_State *L);
void redis_pool_class(lua_State *L, struct runtime *rt);
/* Pushes a table with the pool's figures. */
void redis_push_stats(lua_State *L, const struct redis_pool *p);

/* ---- for the tables of methods ---- */

/* Pushes a closure that runs the command at cmd_idx on handles whose metatable is at class_idx. */
void redis_push_command(lua_State *L, struct runtime *rt, int cmd_idx, int class_idx);
int redis_call__any(lua_State *L); /* r:call("NAME", ...) */
int redis_call__raw(lua_State *L); /* the same, without checking what the command does */

/* Pushes the metatable of pipelines; its methods are in __index. */
void redis_batch_class(lua_State *L, struct runtime *rt);
/* Pushes a closure that queues the command at cmd_idx on a pipeline. */
void redis_push_queue(lua_State *L, struct runtime *rt, int cmd_idx, int class_idx);
int redis_batch_new(lua_State *L); /* (handle, transaction) -> pipeline */
/* The registry key of the function that returns a hint about a command that the server does not know. */
#define REDIS_HINT_FOR "dbrun.redis.hint_for"
/* Raises the usage error of a refused command; `instead` is the hint. */
int redis_refuse(lua_State *L, struct runtime *rt, const struct redis_command *cmd, int first,
                 const char *instead);

#endif
