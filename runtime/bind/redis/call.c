/* Runs one command: one C function with one yield. */
#include "base/deadline.h"
#include "bind/base/args.h"
#include "bind/base/error.h"
#include "bind/redis/args.h"
#include "bind/redis/command_log.h"
#include "bind/redis/command_trace.h"
#include "bind/redis/handle.h"
#include "bind/redis/reply.h"
#include "bind/redis/writes.h"

#include <string.h>

/* ---- parking ---- */

int redis_park(lua_State *L, struct redis_session *s, const struct redis_request *r, lua_KFunction k)
{
    r->call->began = log_wants(s->rt->log, LOG_LEVEL_DEBUG) ? mono_now() : 0;
    struct wait *w = wait_begin(s->rt->sched, r->deadline, redis_session_abandon, r->call);
    if (s->rt->trace)
        w->span = task_span(s->rt->sched, mono_now());
    redis_session_issue(s, r, w);
    return wait_park(L, w, (lua_KContext)w, k);
}

static int raise_failed(lua_State *L, struct runtime *rt, struct session_call *c, const char *what)
{
    struct error e = {0};
    if (c->error) {
        error_move(&e, c->error);
        if (!e.field[ERROR_STATEMENT])
            error_set_field(&e, ERROR_STATEMENT, what);
    } else {
        error_set(&e, ERROR_CONNECT, "not enough memory");
        e.outcome = OUTCOME_UNKNOWN;
    }
    redis_session_give(c);
    return bind_error_raise(L, rt, &e);
}

/* ---- waiting for room ---- */

int redis_park_for_room(lua_State *L, struct redis_session *s, size_t size, const struct redis_terms *terms,
                        lua_KFunction k)
{
    struct session_call *c = redis_session_take(s);
    if (!c)
        return luaL_error(L, "not enough memory");
    c->shape = terms->shape;
    c->blocks = terms->blocks;
    c->deadline = terms->deadline;
    struct wait *w = wait_begin(s->rt->sched, terms->deadline, redis_session_leave_room, c);
    redis_session_wait_for_room(c, w, size);
    wait_told(L, s->rt->sched, w, TRACE_WAIT, "room");
    return wait_park(L, w, (lua_KContext)w, k);
}

static int raise_no_room(lua_State *L, struct redis_session *s, const char *what)
{
    struct error e = {0};
    error_set(&e, ERROR_TIMEOUT,
              "redis at %s: %s could not be sent before its deadline: %zu bytes were queued",
              s->pool->target->label, what, redis_queue_pending(redis_session_queue(s)));
    error_set_field(&e, ERROR_HINT,
                    "tasks write more than the server reads, or it does not answer (redis-cli ping): write "
                    "less at a time, or allow more with max_queued=");
    e.outcome = OUTCOME_NOT_SENT;
    e.retryable = true;
    return bind_error_raise(L, s->rt, &e);
}

struct redis_terms redis_room_given(lua_State *L, struct redis_session *s, lua_KContext ctx, const char *what)
{
    struct session_call *c = ((struct wait *)ctx)->data;
    enum wait_status status = wait_end(s->rt->sched);
    if (status == WAIT_CANCELLED)
        task_raise_cancelled(L, s->rt->sched);
    if (status == WAIT_TIMEOUT)
        raise_no_room(L, s, what);
    if (c->failed)
        raise_failed(L, s->rt, c, what);
    struct redis_terms terms = {c->deadline, c->shape, c->blocks};
    redis_session_settled_in(c);
    return terms;
}

/* ---- the answer ---- */

/* `first`: index of the command's first argument; 0: no arguments for the log. */
static struct session_call *answer(lua_State *L, struct redis_session *s, lua_KContext ctx, const char *what,
                                   int first)
{
    struct runtime *rt = s->rt;
    struct wait *w = (struct wait *)ctx;
    void *data = w->data;
    enum wait_status status = wait_end(rt->sched);
    if (rt->trace)
        redis_trace_command(L, rt, w, status, status == WAIT_DONE ? data : NULL, what, first == 0);
    if (status == WAIT_CANCELLED)
        task_raise_cancelled(L, rt->sched);
    if (status == WAIT_TIMEOUT)
        redis_raise_timeout(L, s, (enum error_outcome)(intptr_t)data, what);
    struct session_call *c = data;
    if (c->began)
        redis_log_command(L, c, what, first);
    if (c->failed)
        raise_failed(L, rt, c, what);
    s->answered = c->answered;
    /* From here on making Lua values can raise: the session then frees this reply when the next one is
     * converted. (Outside tasks a finaliser can wait for a command while this reply is converted: there the
     * session keeps the reply until the session ends.) */
    if (!task_current(rt->sched))
        return c;
    if (s->converting)
        redis_session_give(s->converting);
    s->converting = c;
    return c;
}

struct session_call *redis_answer(lua_State *L, struct redis_session *s, lua_KContext ctx, const char *what)
{
    return answer(L, s, ctx, what, 0);
}

void redis_taken(struct session_call *c)
{
    if (c->session->converting == c)
        c->session->converting = NULL;
    redis_session_give(c);
}

/* ---- one command ---- */

/* Pushes and returns the hint about a command that the server does not know; NULL, and pushes nothing,
 * without a hint. */
static const char *push_hint(lua_State *L, const struct resp_item *item, const char *name)
{
    static const char unknown[] = "ERR unknown command";
    if (item->size < sizeof unknown - 1 || memcmp(item->text, unknown, sizeof unknown - 1) != 0)
        return NULL;
    luaL_checkstack(L, 4, NULL);
    if (lua_getfield(L, LUA_REGISTRYINDEX, REDIS_HINT_FOR) == LUA_TFUNCTION) {
        lua_pushstring(L, name);
        if (lua_pcall(L, 1, 1, 0) == LUA_OK && lua_type(L, -1) == LUA_TSTRING)
            return lua_tostring(L, -1);
    }
    lua_pop(L, 1);
    return NULL;
}

static int raise_reply(lua_State *L, struct runtime *rt, struct session_call *c, const struct resp_item *item,
                       const char *name)
{
    struct error e = {0};
    const char *hint = push_hint(L, item, name);
    redis_reply_error(item, name, &e);
    if (hint)
        error_set_field(&e, ERROR_HINT, hint);
    if (c->session->pool->target->sentinels && item->size > 8 && memcmp(item->text, "READONLY", 8) == 0) {
        error_set_field(&e, ERROR_HINT,
                        "a failover is under way, and the client looks for the new master: try again");
        e.retryable = true;
    }
    redis_taken(c);
    return bind_error_raise(L, rt, &e);
}

/* The running command: upvalue 2 of the closures; r:call puts it at stack index 2. */
static const struct redis_command *running(lua_State *L)
{
    const struct redis_command *cmd = lua_touserdata(L, lua_upvalueindex(2));
    return cmd ? cmd : lua_touserdata(L, 2);
}

static int answered(lua_State *L, int status, lua_KContext ctx)
{
    const struct redis_command *cmd = running(L);
    struct redis_handle *h = lua_touserdata(L, 1);
    struct runtime *rt = h->session->rt;
    int first = lua_touserdata(L, lua_upvalueindex(2)) ? 2 : 3;
    struct session_call *c = answer(L, h->session, ctx, cmd->name, first);
    struct resp_cursor cur = resp_cursor(&c->call.reply);
    struct resp_item item = {.type = RESP_NIL};
    (void)status;
    if (resp_next(&cur, &item) && item.type == RESP_ERROR)
        return raise_reply(L, rt, c, &item, cmd->name);
    bool whole = redis_reply_push_item(L, rt, &cur, &item, c->shape);
    redis_taken(c);
    return whole ? 1 : lua_error(L);
}

struct plan {
    redis_shape_id shape;
    bool blocks;
    bool only_reads; /* the server, or the function that judges writes, has said so */
    bool raw;
    double block; /* for redis_handle_deadline */
};

static inline int write_command(lua_State *L, struct redis_handle *h, const struct redis_command *cmd,
                                int first, const struct redis_terms *terms)
{
    struct redis_session *s = h->session;
    struct redis_queue *q = redis_session_queue(s);
    struct redis_request r = {
        .queue = q, .from = q->out.len, .expect = 1, .deadline = terms->deadline, .repeat = h->repeat};
    struct redis_args_error wrong;
    if (!redis_args_write(L, cmd, first, &q->out, &wrong)) {
        redis_session_admit(s);
        return redis_args_raise(L, s->rt, cmd, &wrong);
    }
    r.call = redis_session_take(s);
    if (!r.call) {
        q->out.len = r.from;
        redis_session_admit(s);
        return luaL_error(L, "not enough memory");
    }
    r.call->shape = terms->shape;
    r.call->blocks = terms->blocks;
    return redis_park(L, s, &r, answered);
}

static int room_given(lua_State *L, int status, lua_KContext ctx)
{
    const struct redis_command *cmd = running(L);
    struct redis_handle *h = lua_touserdata(L, 1);
    (void)status;
    struct redis_terms terms = redis_room_given(L, h->session, ctx, cmd->name);
    if (!redis_is_open(h))
        redis_check_handle(L, 1);
    int first = lua_touserdata(L, lua_upvalueindex(2)) ? 2 : 3;
    return write_command(L, h, cmd, first, &terms);
}

/* As above, when the client is closed, or much is queued on its connection. */
static int send_unusual(lua_State *L, struct redis_handle *h, const struct redis_command *cmd, int first,
                        const struct redis_terms *terms)
{
    struct redis_args_error wrong;
    size_t size;
    if (!redis_is_open(h))
        redis_check_handle(L, 1);
    if (h->session->crowded) {
        if (!redis_args_size(L, cmd, first, &size, &wrong))
            return redis_args_raise(L, bind_runtime(L), cmd, &wrong);
        if (!redis_session_has_room(h->session, size))
            return redis_park_for_room(L, h->session, size, terms, room_given);
    }
    return write_command(L, h, cmd, first, terms);
}

static int run(lua_State *L, struct redis_handle *h, const struct redis_command *cmd, int first,
               bool only_reads);

static int reading_told(lua_State *L, int status, lua_KContext ctx)
{
    const struct redis_command *cmd = running(L);
    int first = (int)ctx;
    bool only_reads = lua_toboolean(L, -1);
    (void)status;
    lua_pop(L, 1);
    if (!only_reads)
        return redis_refuse_write(L, bind_runtime(L), cmd, first);
    return run(L, redis_check_handle(L, 1), cmd, first, true);
}

void redis_push_until(lua_State *L, const struct redis_handle *from, uint64_t stop)
{
    struct redis_handle *h = redis_push_handle(L, REDIS_CLIENT_CLASS);
    h->timeout = from->timeout;
    h->until = stop;
    h->repeat = from->repeat;
    h->typed = from->typed;
    h->session = redis_session_ref(from->session);
}

/* Sets one deadline for the question and the command. */
static void bound_handle(lua_State *L)
{
    const struct redis_handle *h = redis_check_handle(L, 1);
    luaL_checkstack(L, 1, NULL);
    if (h->session->shared) {
        redis_push_until(L, h, redis_handle_deadline(h, -1));
        lua_replace(L, 1);
    }
}

static int ask_reading(lua_State *L, const struct redis_command *cmd, int first)
{
    bound_handle(L);
    lua_pushvalue(L, 1);
    return redis_ask_reading(L, cmd, first, reading_told);
}

static int send_command(lua_State *L, struct redis_handle *h, const struct redis_command *cmd, int first,
                        const struct plan *plan);

static int judged(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    if (!lua_toboolean(L, -2))
        return 1; /* the answer */
    lua_pop(L, 2);
    return run(L, redis_check_handle(L, 1), running(L), (int)ctx, true);
}

static int judged_raw(lua_State *L, int status, lua_KContext ctx)
{
    static const struct plan plan = {SHAPE_PLAIN, false, true, true, -1};
    (void)status;
    if (!lua_toboolean(L, -2))
        return 1;
    lua_pop(L, 2);
    return send_command(L, redis_check_handle(L, 1), running(L), (int)ctx, &plan);
}

static int judge(lua_State *L, const struct redis_command *cmd, int first, const struct plan *plan)
{
    struct redis_judged of = {0, "command", redis_check_handle(L, 1)->typed};
    bound_handle(L);
    return redis_judge(L, cmd, first, &of, plan->raw ? judged_raw : judged);
}

static int send_command(lua_State *L, struct redis_handle *h, const struct redis_command *cmd, int first,
                        const struct plan *plan)
{
    struct runtime *rt = h->session->rt;
    enum redis_reading reading = plan->only_reads ? READING_MAY_SEND : redis_reading_of(L, rt, cmd, first);
    if (reading == READING_MAY_WRITE)
        return redis_refuse_write(L, rt, cmd, first);
    if (reading == READING_ASK)
        return ask_reading(L, cmd, first);
    if (reading == READING_JUDGE)
        return judge(L, cmd, first, plan);
    task_check_park(L, rt->sched);
    if (redis_is_over(h))
        return redis_raise_over(L, h->session, cmd->name);
    struct redis_terms terms = {redis_handle_deadline(h, plan->block), plan->shape, plan->blocks};
    if (!redis_is_usual(h)) /* a finaliser of the script may have closed it; nothing below allocates */
        return send_unusual(L, h, cmd, first, &terms);
    return write_command(L, h, cmd, first, &terms);
}

int redis_refuse(lua_State *L, struct runtime *rt, const struct redis_command *cmd, int first,
                 const char *instead)
{
    struct error e = {0};
    char name[128];
    redis_command_full_name(L, cmd, first, name, sizeof name);
    error_set(&e, ERROR_USAGE, "redis: %s cannot be sent on a connection that is shared or pooled", name);
    error_set_field(&e, ERROR_HINT, instead);
    e.outcome = OUTCOME_NOT_SENT;
    return bind_error_raise(L, rt, &e);
}

static int returned(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    return lua_gettop(L) - (int)ctx;
}

/* For a command that cannot use the client's shared connection: a handler in Lua runs it on another one. */
static int hand_over(lua_State *L, const struct redis_command *cmd, int first, const char *handler)
{
    int top = lua_gettop(L);
    luaL_checkstack(L, top + 4, "too many arguments");
    if (luaL_getmetafield(L, 1, handler) == LUA_TNIL)
        return redis_refuse(L, bind_runtime(L), cmd, first, "require \"dbrun.redis\" first");
    lua_pushvalue(L, 1);
    lua_pushstring(L, cmd->name);
    for (int i = first; i <= top; i++)
        lua_pushvalue(L, i);
    lua_callk(L, top - first + 3, LUA_MULTRET, top, returned);
    return returned(L, LUA_OK, top);
}

/* For commands whose arguments decide the shape, the time limit or whether they may run. */
static int send_special(lua_State *L, struct redis_handle *h, const struct redis_command *cmd, int first,
                        bool only_reads)
{
    const char *instead;
    struct plan plan = {redis_command_shape(L, cmd, first, &instead), false, only_reads, false, -1};
    if (instead)
        return redis_refuse(L, bind_runtime(L), cmd, first, instead);
    double block = redis_command_blocks(L, cmd, first);
    if ((cmd->flags & COMMAND_BLOCK_MS) && h->session->shared)
        return redis_refuse(
            L, bind_runtime(L), cmd, first,
            "r:with{wait = {replicas = n}} waits for replicas after each write. WAIT itself waits only for "
            "the writes of its own connection: take a dedicated one (local c <close> = r:acquire()), and "
            "write and wait on that");
    if (h->session->shared && block >= 0)
        return hand_over(L, cmd, first, "__blocking");
    if (h->session->shared && redis_command_overtakes(L, cmd, first))
        return hand_over(L, cmd, first, "__overtaking");
    plan.shape = h->typed ? REDIS_SHAPE_TYPED : plan.shape;
    plan.blocks = block >= 0;
    plan.block = block;
    return send_command(L, h, cmd, first, &plan);
}

static int run(lua_State *L, struct redis_handle *h, const struct redis_command *cmd, int first,
               bool only_reads)
{
    if (cmd->flags)
        return send_special(L, h, cmd, first, only_reads);
    struct plan plan = {h->typed ? REDIS_SHAPE_TYPED : cmd->shape, false, only_reads, false, -1};
    return send_command(L, h, cmd, first, &plan);
}

/* Upvalues: runtime, command, metatable of the class. */
static int command_call(lua_State *L)
{
    struct redis_handle *h = bind_of(L, 3);
    const struct redis_command *cmd = lua_touserdata(L, lua_upvalueindex(2));
    if (!h && !redis_is_handle(L, 1))
        return redis_wrong_self(L, REDIS_CLIENT_CLASS, cmd);
    if (!h || !redis_is_open(h))
        h = redis_check_handle(L, 1);
    return run(L, h, cmd, 2, false);
}

void redis_push_command(lua_State *L, struct runtime *rt, int cmd_idx, int class_idx)
{
    cmd_idx = lua_absindex(L, cmd_idx);
    class_idx = lua_absindex(L, class_idx);
    lua_pushlightuserdata(L, rt);
    lua_pushvalue(L, cmd_idx);
    lua_pushvalue(L, class_idx);
    lua_pushcclosure(L, command_call, 3);
}

/* ---- commands by name ---- */

/* Replaces the name at index 2 by the command. */
static const struct redis_command *name_to_command(lua_State *L, struct runtime *rt)
{
    bind_check_type(L, REDIS_CLIENT_CLASS, 2, "the name of the command", LUA_TSTRING);
    const struct redis_command *cmd = redis_command_push(L, rt, 2);
    lua_replace(L, 2);
    return cmd;
}

int redis_call__any(lua_State *L)
{
    struct redis_handle *h = redis_check_handle(L, 1);
    const struct redis_command *cmd = name_to_command(L, bind_runtime(L));
    return run(L, h, cmd, 3, false);
}

int redis_call__raw(lua_State *L)
{
    struct redis_handle *h = redis_check_handle(L, 1);
    const struct redis_command *cmd = name_to_command(L, bind_runtime(L));
    struct plan plan = {SHAPE_PLAIN, false, false, true, -1};
    return send_command(L, h, cmd, 3, &plan);
}
