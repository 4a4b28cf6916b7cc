/*
 * Pipelines: many commands in one write, their replies as one list. A transaction is a pipeline between MULTI
 * and EXEC; no command of another task can come between, because the connection sends it in one piece.
 */
#include "bind/base/args.h"
#include "bind/base/error.h"
#include "bind/redis/args.h"
#include "bind/redis/exec.h"
#include "bind/redis/handle.h"
#include "bind/redis/reply_list.h"
#include "bind/redis/writes.h"

#include <math.h>
#include <string.h>

#define MULTI  "*1\r\n$5\r\nMULTI\r\n"
#define ASKING "*1\r\n$6\r\nASKING\r\n"
#define EXEC   "*1\r\n$4\r\nEXEC\r\n"

/* User values: the last replies; the handle that made the pipeline; the list of commands that are answered
 * without being sent. */
enum { USER_REPLIES = 1, USER_HANDLE, USER_TOLD, USER_VALUES = USER_TOLD };

enum {
    FIRST_BYTES = 4000,
    FIRST_COMMANDS = 120,
    BYTES_A_REPLY = 32,
    MOST_EXPECTED = 1 << 20,
};

struct redis_batch {
    struct redis_session *session; /* a counted reference */
    struct redis_handle handle;
    struct buf out;
    struct buf shapes; /* one byte per command */
    uint32_t count;
    uint32_t told; /* how many of them are not sent */
    double block;  /* seconds that its commands can block in total; < 0: none does, 0: without limit */
    bool transaction;
    bool asking; /* a transaction: ASKING before MULTI, which holds until EXEC */
    bool running;
};

static int batch__gc(lua_State *L)
{
    struct redis_batch *b = bind_self(L, REDIS_BATCH_CLASS);
    if (!bind_is_collected(L)) /* a task may be executing the pipeline */
        return 0;
    redis_session_unref(b->session);
    b->session = NULL;
    b->handle.session = NULL;
    buf_free(&b->out);
    buf_free(&b->shapes);
    return 0;
}

/* A finaliser of the script may use the pipeline after the pipeline's own finaliser has run. */
static void check_open(lua_State *L, const struct redis_batch *b)
{
    if (!b->session)
        bind_fail(L, bind_runtime(L), ERROR_USAGE, "redis: this pipeline was collected");
    if (b->running)
        bind_fail(L, bind_runtime(L), ERROR_USAGE, "redis: this pipeline is being executed");
}

static struct redis_batch *check_batch(lua_State *L)
{
    struct redis_batch *b = bind_self(L, REDIS_BATCH_CLASS);
    check_open(L, b);
    return b;
}

int redis_batch_new(lua_State *L)
{
    bool transaction = lua_toboolean(L, 2);
    struct redis_batch *b = lua_newuserdatauv(L, sizeof *b, USER_VALUES);
    memset(b, 0, sizeof *b);
    luaL_setmetatable(L, REDIS_BATCH_CLASS);
    const struct redis_handle *h = redis_check_handle(L, 1);
    b->session = redis_session_ref(h->session);
    b->handle = *h;
    b->block = -1;
    b->transaction = transaction;
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, USER_HANDLE);
    /* Saves growing the buffers step by step. Without memory this is ignored: queueing a command reports
     * it. */
    if (!buf_reserve(&b->out, FIRST_BYTES) || !buf_reserve(&b->shapes, FIRST_COMMANDS))
        b->out.oom = b->shapes.oom = false;
    return 1;
}

/* ---- queueing ---- */

/* Makes room for the shape of one more command, and drops those of the last execution, kept until now. */
static bool reserve_shape(struct redis_batch *b)
{
    if (b->count == 0)
        buf_clear(&b->shapes);
    bool ok = b->shapes.len + 1 < b->shapes.cap || buf_reserve(&b->shapes, 1);
    b->shapes.oom = false;
    return ok;
}

/* Counts a queued command; room for its shape was reserved before. */
static void count_command(struct redis_batch *b, redis_shape_id shape)
{
    b->shapes.data[b->shapes.len++] = (char)shape;
    b->shapes.data[b->shapes.len] = '\0';
    b->count++;
}

static int queue_command(lua_State *L, struct redis_batch *b, const struct redis_command *cmd, int first,
                         bool only_reads);

/* Queues the command whose answer, {answer = ...}, is on top of the stack. */
static int queue_told(lua_State *L, struct redis_batch *b)
{
    luaL_checkstack(L, 3, NULL);
    if (b->told == 0) {
        lua_newtable(L);
        if (b->told == 0) /* a finaliser of the script may have queued one meanwhile */
            lua_setiuservalue(L, 1, USER_TOLD);
        else
            lua_pop(L, 1);
    }
    lua_getiuservalue(L, 1, USER_TOLD);
    lua_pushvalue(L, -2);
    lua_rawseti(L, -2, (lua_Integer)b->told + 1);
    check_open(L, b); /* nothing allocates from here on */
    if (!reserve_shape(b))
        return luaL_error(L, "not enough memory");
    b->told++;
    count_command(b, REDIS_SHAPE_TOLD);
    lua_settop(L, 1);
    return 1;
}

static int judged(lua_State *L, int status, lua_KContext ctx)
{
    const struct redis_command *cmd = lua_touserdata(L, lua_upvalueindex(2));
    bool send = lua_toboolean(L, -2);
    (void)status;
    if (!send)
        return queue_told(L, check_batch(L));
    lua_pop(L, 2);
    return queue_command(L, check_batch(L), cmd ? cmd : lua_touserdata(L, 2), (int)ctx, true);
}

static int reading_told(lua_State *L, int status, lua_KContext ctx)
{
    const struct redis_command *cmd = lua_touserdata(L, lua_upvalueindex(2));
    bool only_reads = lua_toboolean(L, -1);
    (void)status;
    lua_pop(L, 1);
    cmd = cmd ? cmd : lua_touserdata(L, 2); /* for p:call */
    if (!only_reads)
        return redis_refuse_write(L, bind_runtime(L), cmd, (int)ctx);
    return queue_command(L, check_batch(L), cmd, (int)ctx, true);
}

static int ask_reading(lua_State *L, const struct redis_command *cmd, int first)
{
    luaL_checkstack(L, 1, NULL);
    lua_getiuservalue(L, 1, USER_HANDLE);
    return redis_ask_reading(L, cmd, first, reading_told);
}

/* The commands of a dedicated connection may block; in a transaction none does. */
static void add_block(struct redis_batch *b, double seconds)
{
    if (b->transaction || seconds < 0)
        return;
    b->block = seconds == 0 || b->block == 0 ? 0 : fmax(b->block, 0) + seconds;
}

static int queue_command(lua_State *L, struct redis_batch *b, const struct redis_command *cmd, int first,
                         bool only_reads)
{
    struct runtime *rt = b->session->rt;
    redis_shape_id shape = cmd->shape;
    double block = -1;
    if (cmd->flags) {
        const char *instead;
        shape = redis_command_shape(L, cmd, first, &instead);
        block = redis_command_blocks(L, cmd, first);
        if (!instead && !b->transaction && b->session->shared && block >= 0)
            instead =
                "a command that blocks would delay all commands on the shared connection: call it outside "
                "of the pipeline";
        if (!instead && !b->transaction && b->session->shared && redis_command_overtakes(L, cmd, first))
            instead = "it would wait for the command that it should end: call it outside the pipeline";
        if (instead)
            return redis_refuse(L, rt, cmd, first, instead);
    }
    enum redis_reading reading = only_reads ? READING_MAY_SEND : redis_reading_of(L, rt, cmd, first);
    if (reading == READING_MAY_WRITE)
        return redis_refuse_write(L, rt, cmd, first);
    if (reading == READING_ASK)
        return ask_reading(L, cmd, first);
    if (reading == READING_JUDGE) {
        struct redis_judged of = {USER_HANDLE, b->transaction ? "transaction" : "pipeline", false};
        return redis_judge(L, cmd, first, &of, judged);
    }
    struct redis_args_error wrong;
    if (!b->session || b->running)
        check_open(L, b); /* nothing allocates from here on */
    if (!reserve_shape(b))
        return luaL_error(L, "not enough memory");
    if (!redis_args_write(L, cmd, first, &b->out, &wrong))
        return redis_args_raise(L, rt, cmd, &wrong);
    count_command(b, shape);
    add_block(b, block);
    lua_pushvalue(L, 1);
    return 1;
}

/* The fast path for most commands; allocates nothing in Lua. False: use the general path. */
static inline bool queue_usual(lua_State *L, struct redis_batch *b, const struct redis_command *cmd)
{
    if (cmd->flags || b->session->rt->redis_writes != REDIS_WRITES_SENT)
        return false;
    if (!reserve_shape(b) || !redis_args_write_few(L, cmd, 2, &b->out))
        return false;
    count_command(b, cmd->shape);
    lua_pushvalue(L, 1);
    return true;
}

/* Upvalues: runtime, command, metatable of the class. */
static int queue_call(lua_State *L)
{
    struct redis_batch *b = bind_of(L, 3);
    const struct redis_command *cmd = lua_touserdata(L, lua_upvalueindex(2));
    if (!b)
        return redis_wrong_self(L, REDIS_BATCH_CLASS, cmd);
    if (!b->session || b->running)
        check_open(L, b);
    return queue_usual(L, b, cmd) ? 1 : queue_command(L, b, cmd, 2, false);
}

void redis_push_queue(lua_State *L, struct runtime *rt, int cmd_idx, int class_idx)
{
    cmd_idx = lua_absindex(L, cmd_idx);
    class_idx = lua_absindex(L, class_idx);
    lua_pushlightuserdata(L, rt);
    lua_pushvalue(L, cmd_idx);
    lua_pushvalue(L, class_idx);
    lua_pushcclosure(L, queue_call, 3);
}

static int batch_call(lua_State *L)
{
    struct redis_batch *b = check_batch(L);
    struct runtime *rt = bind_runtime(L);
    bind_check_type(L, REDIS_BATCH_CLASS, 2, "the name of the command", LUA_TSTRING);
    const struct redis_command *cmd = redis_command_push(L, rt, 2);
    lua_replace(L, 2);
    return queue_command(L, b, cmd, 3, false);
}

/* Queues ASKING: the slot of the next command's key is migrating to this node of a cluster. In a transaction
 * it is sent once, before MULTI, for all commands. */
static int batch_asking(lua_State *L)
{
    struct redis_batch *b = check_batch(L);
    if (b->transaction) {
        b->asking = true;
        lua_settop(L, 1);
        return 1;
    }
    if (!reserve_shape(b) || !buf_add(&b->out, ASKING, sizeof ASKING - 1)) {
        b->out.oom = false;
        return luaL_error(L, "not enough memory");
    }
    count_command(b, SHAPE_PLAIN);
    lua_settop(L, 1);
    return 1;
}

static int batch__len(lua_State *L)
{
    struct redis_batch *b = bind_self(L, REDIS_BATCH_CLASS);
    lua_pushinteger(L, b->count);
    return 1;
}

/* ---- executing ---- */

static void forget_commands(struct redis_batch *b)
{
    b->count = 0;
    b->told = 0;
    b->block = -1;
    if (b->out.cap > 1024 * 1024)
        buf_free(&b->out);
    buf_clear(&b->out);
}

static void forget(struct redis_batch *b)
{
    forget_commands(b);
    buf_clear(&b->shapes);
}

/* Pushes the list of the `n` replies at the cursor, with the answers of unsent commands among them. */
static void push_replies(lua_State *L, const struct redis_batch *b, struct resp_cursor *cur, uint64_t n)
{
    lua_getiuservalue(L, 1, USER_TOLD);
    redis_reply_list_push(L, bind_runtime(L), cur, n, &b->shapes);
}

/* The name for errors: the fourth argument of send. */
static const char *name_of(lua_State *L)
{
    return luaL_optstring(L, 4, "the pipeline");
}

static int batch_done(lua_State *L, int status, lua_KContext ctx)
{
    struct redis_batch *b = lua_touserdata(L, 1);
    (void)status;
    b->running = false;
    struct session_call *c = redis_answer(L, b->session, ctx, name_of(L));
    struct resp_cursor cur = resp_cursor(&c->call.reply);
    push_replies(L, b, &cur, c->expect);
    redis_taken(c);
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 1, USER_REPLIES);
    return 1;
}

/* last() -> the replies of the last execution | nil */
static int batch_last(lua_State *L)
{
    bind_self(L, REDIS_BATCH_CLASS);
    lua_getiuservalue(L, 1, USER_REPLIES);
    return 1;
}

/* The replies: OK to ASKING, if it was sent, OK to MULTI, QUEUED to each command, then the reply to EXEC: a
 * list of replies, nil when a watched key had changed, or an error because the server had refused one of the
 * commands. */
static int transaction_done(lua_State *L, int status, lua_KContext ctx)
{
    struct redis_batch *b = lua_touserdata(L, 1);
    (void)status;
    b->running = false;
    struct session_call *c = redis_answer(L, b->session, ctx, "the transaction");
    struct resp_cursor cur = resp_cursor(&c->call.reply);
    struct redis_queued queued = redis_queued_read(&cur, c->expect - 1, b->asking ? 1 : 0);
    struct resp_item item;
    if (!resp_next(&cur, &item))
        item.type = RESP_NIL;
    uint32_t commands = c->expect - (b->asking ? 3 : 2);
    redis_exec_check(L, c, &item, &queued, commands);
    if (item.type == RESP_ARRAY)
        push_replies(L, b, &cur, item.size);
    else
        lua_pushnil(L);
    redis_taken(c);
    return 1;
}

static bool write_out(struct redis_batch *b, struct redis_queue *q)
{
    size_t from = q->out.len;
    bool ok = !b->asking || buf_add(&q->out, ASKING, sizeof ASKING - 1);
    ok = ok && (!b->transaction || buf_add(&q->out, MULTI, sizeof MULTI - 1));
    ok = ok && buf_add(&q->out, b->out.data, b->out.len);
    ok = ok && (!b->transaction || buf_add(&q->out, EXEC, sizeof EXEC - 1));
    if (!ok) {
        q->out.len = from;
        q->out.oom = false;
    }
    return ok;
}

static void check_usable(lua_State *L, const struct redis_batch *b)
{
    struct redis_session *s = b->session;
    if (s->closed)
        bind_fail(L, bind_runtime(L), ERROR_USAGE, "redis: the client of this pipeline is closed");
    if (b->transaction && s->link && !s->shared)
        redis_link_look(s->link); /* a loss found after sending would make the outcome unknown */
    if (!s->shared && !s->link)
        redis_raise_lost(L, s);
}

static int execute(lua_State *L, struct redis_batch *b, const struct redis_batch *undo,
                   const struct redis_terms *terms)
{
    struct redis_session *s = b->session;
    struct redis_queue *q = redis_session_queue(s);
    struct redis_request r = {.queue = q,
                              .from = q->out.len,
                              .expect = b->count - b->told + (b->transaction ? 2 : 0) + (b->asking ? 1 : 0),
                              .deadline = terms->deadline,
                              .repeat = b->handle.repeat};
    r.call = redis_session_take(s);
    bool kept =
        r.call && (!undo || redis_undo_keep(r.call, undo->out.data, undo->out.len, undo->count - undo->told));
    if (!kept || !write_out(b, q)) {
        if (r.call)
            redis_session_give(r.call);
        redis_session_admit(s);
        return luaL_error(L, "not enough memory");
    }
    r.call->blocks = terms->blocks;
    size_t expected = (size_t)r.expect * BYTES_A_REPLY;
    resp_reply_expect(&r.call->call.reply, expected < MOST_EXPECTED ? expected : MOST_EXPECTED);
    b->running = true;
    forget_commands(b); /* the server may run them from now on: they must not be sent again */
    return redis_park(L, s, &r, b->transaction ? transaction_done : batch_done);
}

static int room_given(lua_State *L, int status, lua_KContext ctx)
{
    struct redis_batch *b = lua_touserdata(L, 1);
    (void)status;
    b->running = false;
    struct redis_terms terms = redis_room_given(L, b->session, ctx, name_of(L));
    check_usable(L, b);
    return execute(L, b, luaL_testudata(L, 2, REDIS_BATCH_CLASS), &terms);
}

/* None of the commands is sent. */
static int answer_told(lua_State *L, struct redis_batch *b)
{
    push_replies(L, b, NULL, 0);
    forget_commands(b);
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 1, USER_REPLIES);
    return 1;
}

/* told() -> the list of queued commands that are not sent | nil, the number of commands to send, the
 * handle */
static int batch_told(lua_State *L)
{
    struct redis_batch *b = check_batch(L);
    if (b->told)
        lua_getiuservalue(L, 1, USER_TOLD);
    else
        lua_pushnil(L);
    lua_pushinteger(L, b->count - b->told);
    lua_getiuservalue(L, 1, USER_HANDLE);
    return 3;
}

/* send([undo [, stop [, name]]]): `undo` is a pipeline that is sent right after this one when the task stops
 * waiting; the deadline is the client's or `stop`, on the clock of task.now(), whichever comes first; `name`
 * is for errors. */
static int batch_execute(lua_State *L)
{
    struct redis_batch *b = check_batch(L);
    const struct redis_batch *undo = luaL_testudata(L, 2, REDIS_BATCH_CLASS);
    struct redis_handle h = b->handle;
    h.until = deadline_min(h.until, duration_ns(luaL_optnumber(L, 3, HUGE_VAL)));
    struct runtime *rt = bind_runtime(L);
    (void)name_of(L);
    lua_settop(L, 4);
    check_usable(L, b);
    if (b->count == 0) {
        lua_newtable(L);
        return 1;
    }
    if (b->count == b->told)
        return answer_told(L, b);
    task_check_park(L, rt->sched);
    if (redis_is_over(&h))
        return redis_raise_over(L, b->session, b->transaction ? "the transaction" : name_of(L));
    struct redis_terms terms = {redis_handle_deadline(&h, b->block), SHAPE_PLAIN, b->block >= 0};
    if (b->session->crowded && !redis_session_has_room(b->session, b->out.len)) {
        b->running = true;
        return redis_park_for_room(L, b->session, b->out.len, &terms, room_given);
    }
    return execute(L, b, undo, &terms);
}

/* post() -> sent: sends the queued commands in the background; they must be harmless when they run twice. */
static int batch_post(lua_State *L)
{
    struct redis_batch *b = check_batch(L);
    struct redis_session *s = b->session;
    uint32_t count = b->count - b->told;
    bool open = !s->closed && (s->shared || s->link) && count > 0;
    lua_pushboolean(L, open && redis_undo_post(s, b->out.data, b->out.len, count));
    forget(b);
    return 1;
}

/* clear(): forgets the queued commands. */
static int batch_clear(lua_State *L)
{
    forget(check_batch(L));
    return 0;
}

void redis_batch_class(lua_State *L, struct runtime *rt)
{
    static const luaL_Reg meta[] = {{"__gc", batch__gc}, {"__len", batch__len}, {NULL, NULL}};
    static const luaL_Reg methods[] = {
        {"call", batch_call}, {"asking", batch_asking}, {"send", batch_execute}, {"post", batch_post},
        {"last", batch_last}, {"clear", batch_clear},   {"told", batch_told},    {NULL, NULL}};
    bind_class(L, rt, REDIS_BATCH_CLASS, meta, methods);
    bind_class_words(L, "a pipeline", "p");
}
