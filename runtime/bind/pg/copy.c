/*
 * COPY FROM STDIN on a lease: begin, send blocks, end. Sending waits while the socket is full, so that at
 * most two blocks are in memory. The blocks come from copy_encode.c, or are texts in the COPY's format.
 */
#include "bind/pg/copy.h"

#include "base/deadline.h"
#include "base/number.h"
#include "bind/base/args.h"
#include "bind/base/error.h"
#include "bind/pg/lease.h"
#include "bind/pg/traced.h"
#include "pg/errors.h"
#include "pg/placeholder.h"

#include <stdlib.h>
#include <string.h>

/* How long a task may send before it must let the loop run. */
#define TURN_AFTER_NS (5 * NS_PER_MS)

enum { PART = 256 * 1024 }; /* a long text is sent in parts of this size */

static const char waited[] = "COPY made no progress";

/* Raises what the machine reports about the COPY. */
static int copy_failed(lua_State *L, struct pg_link *link)
{
    struct error e = {0};
    error_move(&e, &link->m.error);
    if (!error_is_set(&e))
        error_set(
            &e, ERROR_USAGE,
            "the statement is not a COPY in the right direction (copy_in: FROM STDIN, copy_out: TO STDOUT)");
    if (!e.field[ERROR_STATEMENT])
        error_set_field(&e, ERROR_STATEMENT, link->statement);
    if (link->traced)
        pg_traced_work_over(link, &e);
    if (link->m.state == PG_COPY_OUT || link->m.state == PG_COPY_IN)
        pg_machine_break(&link->m);
    return bind_error_raise(L, link->engine->rt, &e);
}

/* The connection was lost before the end was sent: the server keeps nothing of the COPY. */
static int lost_in_between(lua_State *L, struct pg_link *link)
{
    struct error *e = &link->m.error;
    if (link->m.state == PG_BROKEN && !error_is_set(e))
        pg_error_lost(e, "the connection to the server", "it broke during a COPY");
    if (link->m.state == PG_BROKEN)
        e->outcome = OUTCOME_FAILED;
    return copy_failed(L, link);
}

static int wait_in(lua_State *L, struct pg_link *link, lua_KFunction k)
{
    if (link->traced)
        pg_traced_parks(link);
    return pg_link_wait(L, link, link->engine->command_timeout, (lua_KContext)link, k);
}

/* ---- beginning ---- */

static int begin_k(lua_State *L, int status, lua_KContext ctx);

int pg_copy_start(lua_State *L, struct pg_link *link, const char *shown, lua_KFunction k)
{
    size_t len;
    const char *sql = lua_tolstring(L, 2, &len);
    if (memchr(sql, 0, len))
        return bind_fail(L, link->engine->rt, ERROR_USAGE, "the SQL contains a NUL byte");
    size_t n = len < sizeof link->statement - 1 ? len : sizeof link->statement - 1;
    memcpy(link->statement, sql, n);
    link->statement[n] = '\0';
    if (link->traced) {
        const char *name = k == begin_k ? "COPY in" : "COPY out";
        pg_traced_work(L, link, TRACE_COPY, name, shown ? shown : sql, strlen(shown ? shown : sql));
    }
    if (!pg_machine_copy(&link->m, sql))
        return copy_failed(L, link);
    return wait_in(L, link, k);
}

void pg_copy_begun(lua_State *L, struct pg_link *link, int status, enum pg_state state)
{
    pg_lease_waited(L, link, status, waited);
    if (link->m.state == state)
        return;
    if (error_is_set(&link->m.error))
        pg_error_of_statement(&link->m.error, lua_tostring(L, 2));
    copy_failed(L, link);
}

static int begin_k(lua_State *L, int status, lua_KContext ctx)
{
    struct pg_link *link = (struct pg_link *)ctx;
    pg_copy_begun(L, link, status, PG_COPY_IN);
    link->turned = mono_now();
    return 0;
}

/* copy_begin(sql) */
int pg_copy_begin(lua_State *L)
{
    bind_check_type(L, PG_LEASE_CLASS, 2, "the SQL", LUA_TSTRING);
    return pg_copy_start(L, pg_lease_link(L), NULL, begin_k);
}

/* ---- sending ---- */

/* Ends copy_send; the next offset is already on the stack. */
static int sent(lua_State *L, struct pg_link *link)
{
    if (link->m.state != PG_COPY_IN)
        return lost_in_between(L, link);
    if (link->m.refused)
        lua_pushboolean(L, 0);
    return 1;
}

static int send_k(lua_State *L, int status, lua_KContext ctx)
{
    struct pg_link *link = (struct pg_link *)ctx;
    pg_lease_waited(L, link, status, waited);
    if (status == LUA_YIELD)
        link->turned = mono_now();
    return sent(L, link);
}

static void turn_abandoned(struct wait *w)
{
    (void)w; /* nothing points to the wait */
}

static int turned_k(lua_State *L, int status, lua_KContext ctx)
{
    struct pg_link *link = (struct pg_link *)ctx;
    struct runtime *rt = bind_runtime(L);
    struct pg_lease *lease = lua_touserdata(L, 1);
    (void)status;
    if (wait_end(rt->sched) == WAIT_CANCELLED)
        return task_raise_cancelled_with(L, rt->sched, OUTCOME_FAILED); /* the end of the COPY was not sent */
    if (lease->link != link)
        return pg_lease_lost(L, rt);
    link->turned = mono_now();
    return sent(L, link);
}

/* As long as the server takes everything at once, this task never waits. Without a turn of the loop no other
 * task would run during the COPY, and no deadline would be noticed, not even its own. */
static int let_turn(lua_State *L, struct pg_link *link)
{
    struct wait *w = wait_begin(link->engine->rt->sched, mono_now(), turn_abandoned, link);
    return wait_park(L, w, (lua_KContext)link, turned_k);
}

/* copy_send(encoder) sends the encoder's block and empties it; copy_send(text, offset) sends the part of a
 * long text that begins at the offset (from 0). Returns the offset of the next part (0 for an encoder), or
 * false when the server has refused the COPY; only copy_end may then follow. */
int pg_copy_send(lua_State *L)
{
    struct pg_link *link = pg_lease_link(L);
    bool is_text = lua_type(L, 2) == LUA_TSTRING;
    struct buf *b = is_text ? NULL : pg_copy_buffer(L, 2);
    size_t len = b ? b->len : 0;
    const char *data = b && b->data ? b->data : "";
    lua_Integer from = is_text ? luaL_checkinteger(L, 3) : 0;
    if (is_text) {
        data = lua_tolstring(L, 2, &len);
        luaL_argcheck(L, from >= 0 && (size_t)from <= len, 3, "the offset is outside of the text");
        data += from;
        len = len - (size_t)from > PART ? PART : len - (size_t)from;
    }
    lua_pushinteger(L, is_text ? from + (lua_Integer)len : 0);
    if (link->m.state != PG_COPY_IN)
        return lost_in_between(L, link);
    int rc = pg_machine_copy_put(&link->m, data, len);
    if (b)
        buf_clear(b);
    if (rc > 0 && !link->engine->sync && mono_now() - link->turned > TURN_AFTER_NS)
        return let_turn(L, link);
    if (rc > 0)
        return sent(L, link);
    if (rc < 0) /* the reply says why */
        pg_machine_copy_end(&link->m, "the data could not be sent");
    return wait_in(L, link, send_k);
}

/* ---- ending ---- */

static int end_k(lua_State *L, int status, lua_KContext ctx)
{
    struct pg_link *link = (struct pg_link *)ctx;
    pg_lease_waited(L, link, status, waited);
    if (error_is_set(&link->m.error)) {
        if (link->m.state == PG_BROKEN && link->m.in_transaction)
            link->m.error.outcome = OUTCOME_FAILED;
        return copy_failed(L, link);
    }
    if (link->traced) {
        link->traced->rows = link->m.result ? (uint64_t)number_int(PQcmdTuples(link->m.result)) : 0;
        pg_traced_work_over(link, NULL);
    }
    if (!link->m.result)
        return 0;
    lua_pushinteger(L, number_int(PQcmdTuples(link->m.result)));
    return 1;
}

/* copy_end([failure]) -> rows. With a failure the server undoes the COPY, and its error is raised. Does
 * nothing when the COPY has already ended because a wait timed out or was cancelled. */
int pg_copy_end(lua_State *L)
{
    if (!lua_isnoneornil(L, 2))
        bind_check_type(L, PG_LEASE_CLASS, 2, "the failure", LUA_TSTRING);
    const char *failure = lua_tostring(L, 2);
    struct pg_link *link = pg_lease_link(L);
    if (link->m.state == PG_BROKEN)
        return lost_in_between(L, link);
    if (link->m.state != PG_COPY_IN || link->user)
        return 0;
    pg_machine_copy_end(&link->m, failure);
    return wait_in(L, link, end_k);
}
