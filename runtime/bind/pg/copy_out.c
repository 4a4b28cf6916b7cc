/*
 * COPY TO STDOUT: an iterator over rows (decoded as query decodes them) or over chunks as they arrive. The
 * iterator keeps the connection until it ends; it reads the socket only while a task waits for more, so a
 * slow consumer slows the server down. Leaving the loop early cancels the COPY.
 */
#include "base/deadline.h"
#include "bind/base/args.h"
#include "bind/base/error.h"
#include "bind/base/fields.h"
#include "bind/data/rows.h"
#include "bind/pg/copy.h"
#include "bind/pg/decode.h"
#include "bind/pg/lease.h"
#include "bind/pg/notices.h"
#include "bind/pg/stream.h"
#include "bind/pg/traced.h"
#include "pg/copyfmt.h"
#include "pg/wire.h"

#include <string.h>

#define COPY_OUT_CLASS "dbrun.pg.copyout"

enum { CHUNK = 64 * 1024 };

/* The stack while a row is read: 1 = the iterator, then the names of its columns and the box. */
enum { NAMES = 2, BOX = 3 };

struct copy_out {
    struct pg_stream base;
    struct buf in;
    size_t at; /* the bytes of `in` before this offset were read */
    bool raw;
    bool binary;
    bool by_name;
    bool started; /* the header of the binary format was read */
    int ncols;
    const struct pg_type *types[];
};

/* ---- reading a row ---- */

static int malformed(lua_State *L)
{
    struct error e = {0};
    error_set(&e, ERROR_PROTOCOL, "copy_out: the server sent a malformed row");
    e.outcome = OUTCOME_UNKNOWN;
    error_set_field(&e, ERROR_CONTEXT, "the statement has begun; this failed: reading its rows");
    return bind_error_raise(L, bind_runtime(L), &e);
}

static size_t left(const struct copy_out *c)
{
    return c->in.len - c->at;
}

/* Sets the value of column `i` in the row's table, which is at the top of the stack. */
static void push_field(lua_State *L, const struct copy_out *c, struct pg_reading *d, int i, const char *p,
                       size_t len)
{
    d->column = i;
    if (c->by_name) {
        lua_rawgeti(L, NAMES, i + 1);
        if (p)
            pg_decode(L, d, c->types[i], p, len, c->binary);
        else
            lua_pushnil(L); /* an earlier column may have the same name */
        lua_rawset(L, -3);
        return;
    }
    if (p)
        pg_decode(L, d, c->types[i], p, len, c->binary);
    else
        lua_pushlightuserdata(L, NULL);
    pg_decode_fill(L, d);
    lua_rawseti(L, -2, i + 1);
}

/* Skips the header: signature, flags, and an extension. False when the header has not arrived completely. */
static bool skip_header(lua_State *L, struct copy_out *c)
{
    if (left(c) < COPYFMT_HEADER_LEN)
        return false;
    int32_t extension = wire_get4(c->in.data + c->at + COPYFMT_HEADER_LEN - 4);
    if (memcmp(c->in.data + c->at, COPYFMT_HEADER, 11) != 0 || extension < 0)
        malformed(L);
    if (left(c) - COPYFMT_HEADER_LEN < (size_t)extension)
        return false;
    c->at += COPYFMT_HEADER_LEN + (size_t)extension;
    c->started = true;
    return true;
}

/* The length of the next row; 0 when it has not arrived completely. */
static size_t binary_row_length(lua_State *L, const struct copy_out *c)
{
    size_t at = 2;
    for (int i = 0; i < c->ncols; i++) {
        if (left(c) < at + 4)
            return 0;
        int32_t len = wire_get4(c->in.data + c->at + at);
        if (len < -1)
            malformed(L);
        at += 4 + (len > 0 ? (size_t)len : 0);
    }
    return left(c) < at ? 0 : at;
}

/* Moves the next `len` bytes into the box, because a finaliser of the script may read the next row, which
 * changes `in`, or close the iterator while this row becomes Lua values. */
static struct pg_row_box *take_row(lua_State *L, struct copy_out *c, size_t len)
{
    struct pg_row_box *box = lua_touserdata(L, BOX);
    pg_row_box_begin(box, c->base.link->engine);
    if (!buf_add(&box->buf, c->in.data + c->at, len))
        luaL_error(L, "not enough memory");
    c->at += len;
    return box;
}

static bool push_binary_row(lua_State *L, struct copy_out *c)
{
    if (!c->started && !skip_header(L, c))
        return false;
    if (left(c) < 2)
        return false;
    if (wire_get2(c->in.data + c->at) == -1) { /* the trailer */
        c->at += 2;
        return false;
    }
    if (wire_get2(c->in.data + c->at) != c->ncols)
        malformed(L);
    size_t length = binary_row_length(L, c);
    if (length == 0)
        return false;
    const struct pg_row_box *box = take_row(L, c, length);
    struct pg_reading d = {.by = &box->engine->decoder, .names = NAMES};
    const char *p = box->buf.data + 2;
    lua_createtable(L, c->by_name ? 0 : c->ncols, c->by_name ? c->ncols : 0);
    for (int i = 0; i < c->ncols; i++) {
        int32_t len = wire_get4(p);
        p += 4;
        push_field(L, c, &d, i, len < 0 ? NULL : p, len < 0 ? 0 : (size_t)len);
        p += len < 0 ? 0 : len;
    }
    return true;
}

/* Replaces the escapes of a field in place, and ends the field with a NUL. */
static size_t unescape(char *p, size_t len)
{
    char *out = p;
    for (size_t i = 0; i < len; i++) {
        char ch = p[i];
        if (ch == '\\' && i + 1 < len) {
            ch = p[++i];
            switch (ch) {
            case 'b':
                ch = '\b';
                break;
            case 'f':
                ch = '\f';
                break;
            case 'n':
                ch = '\n';
                break;
            case 'r':
                ch = '\r';
                break;
            case 't':
                ch = '\t';
                break;
            case 'v':
                ch = '\v';
                break;
            default:
                break;
            }
        }
        *out++ = ch;
    }
    *out = '\0'; /* at the latest where the tab or newline was */
    return (size_t)(out - p);
}

static void push_text_field(lua_State *L, struct copy_out *c, struct pg_reading *d, int i, char *p,
                            size_t len)
{
    if (len == 2 && p[0] == '\\' && p[1] == 'N') {
        push_field(L, c, d, i, NULL, 0);
        return;
    }
    len = memchr(p, '\\', len) ? unescape(p, len) : (p[len] = '\0', len);
    push_field(L, c, d, i, p, len);
}

static bool push_text_row(lua_State *L, struct copy_out *c)
{
    const char *start = left(c) ? c->in.data + c->at : NULL;
    const char *newline = start ? memchr(start, '\n', left(c)) : NULL;
    if (!newline)
        return false;
    const struct pg_row_box *box = take_row(L, c, (size_t)(newline - start) + 1);
    struct pg_reading d = {.by = &box->engine->decoder, .names = NAMES};
    char *p = box->buf.data;
    char *end = p + box->buf.len - 1;
    lua_createtable(L, c->by_name ? 0 : c->ncols, c->by_name ? c->ncols : 0);
    for (int i = 0; i < c->ncols; i++) {
        bool last = i == c->ncols - 1;
        char *stop = memchr(p, '\t', (size_t)(end - p));
        if (last != (stop == NULL))
            malformed(L);
        if (last)
            stop = end;
        push_text_field(L, c, &d, i, p, (size_t)(stop - p));
        p = stop + 1;
    }
    return true;
}

/* Pushes the next row or chunk from `in`; false when more bytes are needed. */
static bool push_next(lua_State *L, struct copy_out *c)
{
    if (c->raw) {
        const char *chunk = c->in.data + c->at;
        size_t len = left(c);
        if (len == 0)
            return false;
        c->at = c->in.len;
        lua_pushlstring(L, chunk, len);
        return true;
    }
    if (!(c->binary ? push_binary_row(L, c) : push_text_row(L, c)))
        return false;
    pg_row_box_done(L, BOX);
    if (c->base.link && c->base.link->traced)
        c->base.link->traced->rows++;
    lua_getiuservalue(L, 1, PG_STREAM_META);
    lua_setmetatable(L, -2);
    return true;
}

/* ---- receiving ---- */

/* Appends the rows that libpq has received to `in`, about one chunk at most; false when there are none. */
static bool collect(lua_State *L, struct copy_out *c)
{
    struct pg_machine *m = &c->base.link->m;
    char *data = NULL;
    int n;
    bool ok = true;
    buf_consume(&c->in, c->at);
    c->at = 0;
    size_t before = c->in.len;
    while (ok && c->in.len - before < CHUNK && (n = pg_machine_copy_get(m, &data)) > 0) {
        ok = buf_add(&c->in, data, (size_t)n);
        PQfreemem(data);
    }
    if (!ok)
        luaL_error(L, "not enough memory");
    return c->in.len > before;
}

static int end_of_copy(lua_State *L, struct copy_out *c)
{
    struct pg_link *link = c->base.link;
    struct error e = {0};
    bool rest = !c->raw && left(c) > 0;
    pg_notices_tell(L, link);
    error_move(&e, &link->m.error);
    if (error_is_set(&e))
        error_set_field(&e, ERROR_STATEMENT, link->statement);
    if (link->traced)
        pg_traced_work_over(link, &e);
    pg_stream_finish(&c->base);
    if (error_is_set(&e))
        return bind_error_raise(L, bind_runtime(L), &e);
    return rest ? malformed(L) : 0;
}

static int next_k(lua_State *L, int status, lua_KContext ctx)
{
    struct copy_out *c = (struct copy_out *)ctx;
    if (status == LUA_YIELD && !pg_stream_resumed(L, &c->base))
        return 0;
    for (;;) {
        struct pg_machine *m = &c->base.link->m;
        unsigned want = PG_WANT_READ;
        if (push_next(L, c))
            return 1;
        if (m->state == PG_COPY_OUT && collect(L, c))
            continue;
        if (m->state != PG_COPY_OUT)
            want = pg_machine_step(m, 0);
        if (want == PG_DONE)
            return end_of_copy(L, c);
        if (!c->base.link->engine->sync)
            return pg_stream_park(L, &c->base, want, next_k);
        pg_stream_poll_blocking(L, &c->base, want);
    }
}

/* ---- the iterator ---- */

/* iterator() -> row | chunk | nil */
static int copy_out_call(lua_State *L)
{
    struct copy_out *c = bind_self(L, COPY_OUT_CLASS);
    lua_settop(L, 1);
    lua_getiuservalue(L, 1, PG_STREAM_NAMES);
    pg_row_box_push(L);
    if (!pg_stream_check_next(L, &c->base))
        return 0;
    return next_k(L, LUA_OK, (lua_KContext)c);
}

static int copy_out_close(lua_State *L)
{
    struct copy_out *c = bind_self(L, COPY_OUT_CLASS);
    pg_stream_check_codec(L, &c->base);
    pg_stream_leave(&c->base, !lua_isnoneornil(L, 2));
    buf_free(&c->in);
    c->at = 0;
    return 0;
}

static int copy_out_gc(lua_State *L)
{
    struct copy_out *c = bind_self(L, COPY_OUT_CLASS);
    pg_stream_collected(&c->base);
    buf_free(&c->in);
    c->at = 0;
    return 0;
}

/* Stack: lease, SQL, options, iterator. */
static int begun_k(lua_State *L, int status, lua_KContext ctx)
{
    struct pg_link *link = (struct pg_link *)ctx;
    struct copy_out *c = lua_touserdata(L, 4);
    struct pg_lease *lease = lua_touserdata(L, 1);
    bool own = field_boolean(L, 3, "own", false);
    pg_copy_begun(L, link, status, PG_COPY_OUT);
    if (own)
        lease->link = NULL;
    pg_stream_attach(&c->base, link, own);
    lua_settop(L, 4);
    return 1;
}

/* copy_out_begin(sql, {raw=, binary=, by_name=, own=, oids=, names=, columns=, shown=}) -> iterator. own: the
 * iterator takes the connection from the lease, and returns it to the pool at the end. shown: the query for
 * the trace, without the values that were written into it. */
int pg_copy_out_begin(lua_State *L)
{
    bind_check_type(L, PG_LEASE_CLASS, 2, "the SQL", LUA_TSTRING);
    bind_check_type(L, PG_LEASE_CLASS, 3, "the options", LUA_TTABLE);
    lua_settop(L, 3);
    lua_getfield(L, 3, "oids");
    size_t n = lua_istable(L, 4) ? lua_rawlen(L, 4) : 0;
    struct copy_out *c = lua_newuserdatauv(L, sizeof *c + n * sizeof c->types[0], PG_STREAM_VALUES);
    *c = (struct copy_out){.ncols = (int)n};
    luaL_setmetatable(L, COPY_OUT_CLASS);
    c->raw = field_boolean(L, 3, "raw", false);
    c->binary = field_boolean(L, 3, "binary", false);
    c->by_name = field_boolean(L, 3, "by_name", false);
    lua_getfield(L, 3, "names");
    lua_setiuservalue(L, -2, PG_STREAM_NAMES);
    if (lua_getfield(L, 3, "columns") != LUA_TNIL)
        bind_rows_meta(L);
    lua_setiuservalue(L, -2, PG_STREAM_META);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, PG_STREAM_LEASE);
    lua_getfield(L, 3, "shown");
    const char *shown = lua_tostring(L, -1); /* the options keep it */
    lua_pop(L, 1);
    struct pg_link *link = pg_lease_link(L); /* after what allocates */
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, 4, (lua_Integer)i + 1);
        c->types[i] = pg_type_of(link->engine->catalog, (Oid)lua_tointeger(L, -1));
        lua_pop(L, 1);
    }
    lua_replace(L, 4);
    return pg_copy_start(L, link, shown, begun_k);
}

/* reads_binary(oids) -> true when values of all these types can be read in the binary format */
int pg_copy_reads_binary(lua_State *L)
{
    bind_check_type(L, PG_LEASE_CLASS, 2, "the list", LUA_TTABLE);
    const struct pg_link *link = pg_lease_check(L)->link;
    bool binary = !link->m.text_only;
    size_t n = lua_rawlen(L, 2);
    for (size_t i = 1; i <= n && binary; i++) {
        lua_rawgeti(L, 2, (lua_Integer)i);
        binary = pg_type_of(link->engine->catalog, (Oid)lua_tointeger(L, -1))->binary;
        lua_pop(L, 1);
    }
    lua_pushboolean(L, binary);
    return 1;
}

void pg_copy_out_class(lua_State *L, struct runtime *rt)
{
    static const luaL_Reg meta[] = {
        {"__call", copy_out_call}, {"__close", copy_out_close}, {"__gc", copy_out_gc}, {NULL, NULL}};
    bind_class(L, rt, COPY_OUT_CLASS, meta, NULL);
    lua_pop(L, 1);
}
