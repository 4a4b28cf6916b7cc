/*
 * COPY FROM STDIN in text format (section "COPY", File Formats, of the PostgreSQL manual). The encoder
 * turns rows into a buffer in C; a lease sends it and waits while the socket is full. Who calls whom,
 * row by row, is lua/dbrun/db.lua's business, so that a producer may wait too.
 */
#include "bind/pg_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ENCODER_CLASS "dbrun.pg.copy"

/* ---- encoder ---- */

static struct buf *check_encoder(lua_State *L, int arg)
{
    return luaL_checkudata(L, arg, ENCODER_CLASS);
}

int pg_copy_encoder(lua_State *L)
{
    struct buf *b = lua_newuserdatauv(L, sizeof *b, 0);
    *b = (struct buf){0};
    luaL_setmetatable(L, ENCODER_CLASS);
    return 1;
}

static int encoder_gc(lua_State *L)
{
    buf_free(lua_touserdata(L, 1));
    return 0;
}

/* A text value: backslash, tab, newline and carriage return are escaped. */
static bool add_text(struct buf *b, const char *s, size_t len)
{
    if (!buf_reserve(b, len * 2))
        return false;
    char *out = b->data + b->len;
    for (size_t i = 0; i < len; i++) {
        char c = s[i];
        char escape = c == '\t' ? 't' : c == '\n' ? 'n' : c == '\r' ? 'r' : c == '\\' ? '\\' : 0;
        if (escape)
            *out++ = '\\';
        *out++ = escape ? escape : c;
    }
    b->len = (size_t)(out - b->data);
    return true;
}

static bool add_wrapped(lua_State *L, struct buf *b, int at)
{
    size_t len;
    lua_rawgeti(L, at, 1);
    lua_rawgeti(L, at, 3);
    const char *s = lua_tolstring(L, -2, &len);
    bool ok;
    if (!s) {
        ok = buf_adds(b, "\\N");
    } else if (lua_toboolean(L, -1)) { /* bytea, as \x.. in the text format */
        static const char digits[] = "0123456789abcdef";
        ok = buf_adds(b, "\\\\x") && buf_reserve(b, len * 2);
        for (size_t i = 0; ok && i < len; i++) {
            b->data[b->len++] = digits[(unsigned char)s[i] >> 4];
            b->data[b->len++] = digits[(unsigned char)s[i] & 15];
        }
    } else {
        ok = add_text(b, s, len);
    }
    lua_pop(L, 2);
    return ok;
}

static bool add_value(lua_State *L, struct buf *b, int at)
{
    char number[32];
    size_t len;
    switch (lua_type(L, at)) {
    case LUA_TBOOLEAN:
        return buf_add(b, lua_toboolean(L, at) ? "t" : "f", 1);
    case LUA_TNUMBER:
        pg_param_number(L, at, number);
        return buf_adds(b, number);
    case LUA_TSTRING: {
        const char *s = lua_tolstring(L, at, &len);
        return add_text(b, s, len);
    }
    case LUA_TTABLE:
        return add_wrapped(L, b, at);
    default:
        return buf_add(b, "\\N", 2);
    }
}

/* add(row, ncolumns) -> bytes waiting: one row, a sequence of ncolumns values */
static int encoder_add(lua_State *L)
{
    struct runtime *rt = bind_runtime(L);
    struct buf *b = check_encoder(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    int n = (int)luaL_checkinteger(L, 3);
    lua_settop(L, 3);
    if (lua_rawlen(L, 2) > (lua_Unsigned)n)
        return bind_fail(L, rt, ERROR_USAGE, "copy_in: a row of %d values for %d columns",
                         (int)lua_rawlen(L, 2), n);
    size_t before = b->len;
    for (int i = 1; i <= n; i++) {
        lua_rawgeti(L, 2, i);
        if (!pg_param_is_allowed(L, -1)) {
            b->len = before;
            return bind_fail(L, rt, ERROR_USAGE,
                             "copy_in: column %d of a row is a %s, which cannot be copied", i,
                             luaL_typename(L, -1));
        }
        if (!add_value(L, b, 4) || !buf_add(b, i < n ? "\t" : "\n", 1))
            return luaL_error(L, "not enough memory");
        lua_pop(L, 1);
    }
    lua_pushinteger(L, (lua_Integer)b->len);
    return 1;
}

/* raw(text) -> bytes waiting: data in the COPY's own format */
static int encoder_raw(lua_State *L)
{
    size_t len;
    struct buf *b = check_encoder(L, 1);
    const char *s = luaL_checklstring(L, 2, &len);
    if (!buf_add(b, s, len))
        return luaL_error(L, "not enough memory");
    lua_pushinteger(L, (lua_Integer)b->len);
    return 1;
}

void pg_copy_class(lua_State *L, struct runtime *rt)
{
    static const luaL_Reg methods[] = {{"add", encoder_add}, {"raw", encoder_raw}, {NULL, NULL}};
    static const luaL_Reg meta[] = {{"__gc", encoder_gc}, {NULL, NULL}};
    bind_class(L, rt, ENCODER_CLASS, meta, methods);
    lua_pop(L, 1);
}

/* ---- sending ---- */

/* Raises what the machine reports about the COPY. */
static int copy_failed(lua_State *L, struct pg_link *link)
{
    struct error e = {0};
    error_move(&e, &link->m.error);
    if (!error_is_set(&e))
        error_set(&e, ERROR_USAGE, "copy_in: the statement is not a COPY ... FROM STDIN");
    if (link->m.state == PG_COPY_OUT)
        link->m.state = PG_BROKEN;
    return bind_error_raise(L, link->engine->rt, &e);
}

static const char waited[] = "COPY did not get on";

static int begin_k(lua_State *L, int status, lua_KContext ctx)
{
    struct pg_link *link = (struct pg_link *)ctx;
    pg_lease_waited(L, link, status, waited);
    return link->m.state == PG_COPY_IN ? 0 : copy_failed(L, link);
}

/* copy_begin(sql) */
int pg_copy_begin(lua_State *L)
{
    struct pg_link *link = pg_lease_link(L);
    const char *sql = luaL_checkstring(L, 2);
    snprintf(link->statement, sizeof link->statement, "%s", sql);
    if (link->use != LINK_FREE || !pg_machine_simple(&link->m, sql))
        return copy_failed(L, link);
    return pg_link_wait(L, link, link->engine->command_timeout, (lua_KContext)link, begin_k);
}

static int send_k(lua_State *L, int status, lua_KContext ctx)
{
    struct pg_link *link = (struct pg_link *)ctx;
    pg_lease_waited(L, link, status, waited);
    return link->m.state == PG_COPY_IN ? 0 : copy_failed(L, link);
}

/* copy_send(encoder): sends what it holds and empties it */
int pg_copy_send(lua_State *L)
{
    struct pg_link *link = pg_lease_link(L);
    struct buf *b = check_encoder(L, 2);
    if (link->m.state != PG_COPY_IN)
        return copy_failed(L, link);
    int rc = pg_machine_copy_put(&link->m, b->data ? b->data : "", b->len);
    buf_clear(b);
    if (rc > 0)
        return 0;
    if (rc < 0) /* the server has ended the COPY: its reply says why */
        pg_machine_copy_end(&link->m, NULL);
    return pg_link_wait(L, link, link->engine->command_timeout, (lua_KContext)link, send_k);
}

static int end_k(lua_State *L, int status, lua_KContext ctx)
{
    struct pg_link *link = (struct pg_link *)ctx;
    pg_lease_waited(L, link, status, waited);
    if (error_is_set(&link->m.error))
        return copy_failed(L, link);
    if (!link->m.result)
        return 0;
    lua_pushinteger(L, strtoll(PQcmdTuples(link->m.result), NULL, 10));
    return 1;
}

/* copy_end([failure]) -> rows; with a failure the COPY is undone and the error of that is raised */
int pg_copy_end(lua_State *L)
{
    struct pg_link *link = pg_lease_link(L);
    const char *failure = luaL_optstring(L, 2, NULL);
    if (link->m.state != PG_COPY_IN)
        return copy_failed(L, link);
    pg_machine_copy_end(&link->m, failure);
    return pg_link_wait(L, link, link->engine->command_timeout, (lua_KContext)link, end_k);
}
