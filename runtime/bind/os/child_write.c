#include "bind/os/child_write.h"

#include "base/deadline.h"
#include "bind/base/error.h"

#include <limits.h>

/* A writing task lets the loop run after this time, because the pipe to a child that reads fast never
 * fills. */
#define TURN_AFTER_NS (5 * NS_PER_MS)
/* How often a task writes in a row while the child keeps up. */
#define WRITES_IN_A_ROW 16

/* The stack of a write: its arguments, with the deadline in place of the seconds, and the bytes written. */
enum { TEXT = 2, DEADLINE = 3, WRITTEN = 4 };

struct child_handle *child_handle_check(lua_State *L)
{
    return luaL_checkudata(L, 1, CHILD_CLASS);
}

static struct child *open_child(lua_State *L)
{
    struct child_handle *h = child_handle_check(L);
    if (!h->child)
        bind_fail(L, bind_runtime(L), ERROR_USAGE, "process: the handle of this child is closed");
    return h->child;
}

/* ---- errors ---- */

struct failure {
    struct runtime *rt;
    struct error *e;
    lua_Integer written;
};

static int push_failure(lua_State *L)
{
    struct failure *f = lua_touserdata(L, 1);
    bind_error_push(L, f->rt, f->e);
    lua_pushinteger(L, f->written);
    lua_setfield(L, -2, "written");
    return 1;
}

/* Clears `e` and raises it, with the number of bytes written. */
static int fail(lua_State *L, struct error *e)
{
    struct failure f = {bind_runtime(L), e, lua_tointeger(L, WRITTEN)};
    e->outcome = f.written ? OUTCOME_UNKNOWN : OUTCOME_NOT_SENT;
    if (f.written) {
        char detail[96];
        snprintf(detail, sizeof detail, "%lld of %zu bytes were written", (long long)f.written,
                 (size_t)lua_rawlen(L, TEXT));
        error_set_field(e, ERROR_DETAIL, detail);
    }
    if (!lua_checkstack(L, 4)) {
        error_clear(e);
        return luaL_error(L, "not enough memory");
    }
    lua_pushcfunction(L, push_failure);
    lua_pushlightuserdata(L, &f);
    lua_pcall(L, 1, 1, 0);
    error_clear(e);
    return lua_error(L);
}

/* Raises the reason why nothing can be written. */
static int fail_closed(lua_State *L, const struct child *c)
{
    struct error e = {0};
    if (!c) {
        error_set(&e, ERROR_USAGE, "process: the handle of this child is closed");
        return fail(L, &e);
    }
    if (c->in.cut && c->in.state != CHILD_INPUT_BROKEN) {
        error_set(&e, ERROR_IO, "cannot write to '%s': an earlier write was given up after %zu bytes",
                  c->name, c->in.cut);
        error_set_field(
            &e, ERROR_HINT,
            "the child would read later text as the rest of that write: use close_stdin(), or end the child");
        return fail(L, &e);
    }
    switch (c->in.state) {
    case CHILD_INPUT_NONE:
        error_set(&e, ERROR_USAGE, "process: the standard input of '%s' is no pipe", c->name);
        error_set_field(&e, ERROR_HINT, "start it with stdin_from = \"pipe\"");
        break;
    case CHILD_INPUT_FED:
        error_set(
            &e, ERROR_USAGE,
            "process: the standard input of '%s' is the text of stdin=, so nothing can be written to it",
            c->name);
        error_set_field(&e, ERROR_HINT, "start it with stdin_from = \"pipe\", and write the text");
        break;
    case CHILD_INPUT_ENDED:
        error_set(&e, ERROR_USAGE, "process: the standard input of '%s' is closed", c->name);
        error_set_field(&e, ERROR_HINT, "close_stdin() comes after the last write");
        break;
    case CHILD_INPUT_OPEN: /* then only a cut refuses a write */
        break;
    case CHILD_INPUT_BROKEN:
        error_set(&e, ERROR_IO, "cannot write to '%s' (process %d): %s", c->name, (int)c->pid,
                  c->exited ? "it has ended" : "it has closed its standard input");
        error_set_field(&e, ERROR_HINT, "wait() returns how it ended");
        break;
    }
    return fail(L, &e);
}

/* Raises when the wait ended with the deadline or a cancellation. The child may be gone. */
static int fail_given_up(lua_State *L, enum wait_status how)
{
    struct runtime *rt = bind_runtime(L);
    struct child *c = child_handle_check(L)->child;
    struct error e = {0};
    if (how == WAIT_CANCELLED) {
        task_cancelled_error(rt->sched, &e);
    } else {
        error_set(&e, ERROR_TIMEOUT, "'%s' did not read its standard input in time",
                  c ? c->name : "the child");
        error_set_field(&e, ERROR_HINT,
                        lua_tointeger(L, WRITTEN)
                            ? "nothing more can be written to it: end it, or give it more time"
                            : "it can be written to again");
    }
    return fail(L, &e);
}

/* ---- writing ---- */

/* What a write waits for. */
enum { FOR_ITS_TURN, FOR_ROOM };

static int begin(lua_State *L, struct child *c);
static int write_some(lua_State *L, struct child *c);

static int waited(lua_State *L, int status, lua_KContext what)
{
    (void)status;
    enum wait_status how = wait_end(bind_runtime(L)->sched);
    struct child *c = child_handle_check(L)->child;
    if (how != WAIT_DONE)
        return fail_given_up(L, how);
    if (!c || c->in.fd < 0)
        return fail_closed(L, c);
    return what == FOR_ITS_TURN ? begin(L, c) : write_some(L, c);
}

/* Writes in this task's turn. */
static int write_some(lua_State *L, struct child *c)
{
    struct child_input *in = &c->in;
    size_t len, at = (size_t)lua_tointeger(L, WRITTEN);
    const char *text = lua_tolstring(L, TEXT, &len);
    for (int i = 0; i < WRITES_IN_A_ROW && at < len; i++) {
        ssize_t n = child_input_write(in, text + at, len - at);
        if (n < 0)
            return fail_closed(L, c);
        if (n == 0)
            break;
        at += (size_t)n;
        lua_pushinteger(L, (lua_Integer)at);
        lua_replace(L, WRITTEN);
    }
    if (at == len) {
        child_input_next(in);
        return 0;
    }
    struct sched *s = bind_runtime(L)->sched;
    if (!task_can_park(L, s)) { /* nothing was written: see child_handle_write */
        child_input_next(in);
        task_check_park(L, s);
    }
    in->written = at;
    if (child_over(c, c->asked)) { /* the child blocks in its own write and reads nothing */
        child_input_give_up(in);
        lua_pushvalue(L, WRITTEN);
        return 1;
    }
    in->turned = mono_now();
    struct wait *w =
        wait_begin(bind_runtime(L)->sched, (uint64_t)lua_tointeger(L, DEADLINE), child_input_abandon, in);
    child_input_wait(in, w);
    return wait_park(L, w, FOR_ROOM, waited);
}

static void still_its_turn(struct wait *w)
{
    (void)w; /* nothing points to the wait */
}

static int turned_k(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    (void)ctx;
    enum wait_status how = wait_end(bind_runtime(L)->sched);
    struct child *c = child_handle_check(L)->child;
    bool open = c && c->in.fd >= 0;
    if (how == WAIT_CANCELLED) {
        if (open)
            child_input_next(&c->in);
        return fail_given_up(L, how);
    }
    return open ? write_some(L, c) : fail_closed(L, c);
}

static int begin(lua_State *L, struct child *c)
{
    struct child_input *in = &c->in;
    struct sched *s = bind_runtime(L)->sched;
    if (in->cut) {
        child_input_next(in);
        return fail_closed(L, c);
    }
    uint64_t now = mono_now();
    if (now - in->turned < TURN_AFTER_NS || !task_can_park(L, s))
        return write_some(L, c);
    in->turned = now;
    return wait_park(L, wait_begin(s, now, still_its_turn, in), 0, turned_k);
}

int child_handle_write(lua_State *L)
{
    struct sched *s = bind_runtime(L)->sched;
    luaL_checktype(L, TEXT, LUA_TSTRING);
    uint64_t deadline = lua_isnoneornil(L, 3) ? DEADLINE_NEVER : deadline_in(luaL_checknumber(L, 3));
    lua_settop(L, TEXT);
    lua_pushinteger(L, (lua_Integer)deadline);
    lua_pushinteger(L, 0);
    struct child *c = child_handle_check(L)->child;
    if (!c)
        return fail_closed(L, c);
    struct child_input *in = &c->in;
    if (in->state != CHILD_INPUT_OPEN || in->cut)
        return fail_closed(L, c);
    /* A pipe takes up to PIPE_BUF bytes at once or not at all; code that cannot wait must not begin a longer
     * write. */
    if ((in->busy || lua_rawlen(L, TEXT) > PIPE_BUF) && !task_can_park(L, s))
        return bind_fail(
            L, bind_runtime(L), ERROR_USAGE,
            "child:write: nothing can wait here (a sort comparator, a gsub callback, __gc ...), where "
            "at most %d bytes are written at once, and none while another task writes: collect the "
            "text, and write it outside",
            PIPE_BUF);
    if (!in->busy) {
        in->busy = true;
        return begin(L, c);
    }
    struct wait *w = wait_begin(s, deadline, child_input_abandon_turn, in);
    wait_queue_push(&in->turns, w);
    return wait_park(L, w, FOR_ITS_TURN, waited);
}

int child_handle_feed(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);
    struct child *c = open_child(L);
    lua_settop(L, 2);
    lua_setiuservalue(L, 1, 1); /* keeps the text alive */
    child_input_feed(&c->in, text, len);
    return 0;
}

int child_handle_close_stdin(lua_State *L)
{
    child_input_end(&open_child(L)->in);
    return 0;
}
