/*
 * Any allocation can run a finaliser of the script, which can read from the same file (it cannot wait: it
 * gets what the current value has taken) or close it. So each value is looked at again after the last
 * allocation.
 */
#include "host/read.h"

#include "base/deadline.h"
#include "host/input.h"
#include "host/terminal.h"
#include "task/traced.h"

#include <errno.h>
#include <lualib.h>
#include <stdint.h>
#include <stdio_ext.h>
#include <string.h>

/* Of the function and the file of read_push_reader. */
static const char reader_key;
static const char stdin_key;

/* Lua's own functions. They have no upvalues, so ours can call them directly. */
static struct {
    lua_CFunction io_read, io_lines, io_close, read, lines, close, seek, setvbuf, gc;
} stock;

enum { STEP_FILE = 1, STEP_FORMATS, STEP_CLOSES, STEP_FIRST_FORMAT }; /* upvalues of Lua's own iterator */

/* ---- waiting ---- */

static int go_on(lua_State *L, struct reading *r);

static void on_readable(void *data, unsigned events)
{
    (void)events;
    struct input *in = data;
    io_borrowed_want(in->watch, false);
    if (in->owner != NULL)
        reading_wake(in->owner);
}

static void abandon(struct wait *w)
{
    reading_release(w->data);
}

static int fail_closed(lua_State *L, const struct reading *r)
{
    return luaL_error(L, r->step ? "file is already closed" : "attempt to use a closed file");
}

static int resumed(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    struct sched *s = bind_runtime(L)->sched;
    struct reading *r = (struct reading *)ctx;
    if (wait_end(s) == WAIT_CANCELLED)
        return task_raise_cancelled(L, s);
    r->in->stream.reads = INPUT_READS_AT_ONCE;
    return go_on(L, r);
}

/* Parks until its turn comes in this queue; NULL: until there are bytes. */
static int park(lua_State *L, struct reading *r, struct wait_queue *queue)
{
    struct sched *s = bind_runtime(L)->sched;
    task_check_park(L, s);
    r->wait = wait_begin(s, DEADLINE_NEVER, abandon, r);
    r->queue = queue;
    if (queue == NULL)
        io_borrowed_want(r->in->watch, true);
    else
        wait_queue_push(queue, r->wait);
    wait_told(L, s, r->wait, TRACE_WAIT, "input");
    return wait_park(L, r->wait, (lua_KContext)r, resumed);
}

/* Returns nil, a message and a number. Drops the results of the reading from the stack. */
static int fail(lua_State *L, struct reading *r, int reason)
{
    reading_release(r);
    errno = reason;
    lua_settop(L, r->file + 1);
    return luaL_fileresult(L, 0, NULL);
}

/* ---- reading ---- */

static enum stream_status read_value(struct stream *s, char kind, size_t count, char *numeral)
{
    switch (kind) {
    case 'n':
        return stream_numeral(s, numeral);
    case 'a':
        return stream_all(s);
    case '#':
        return stream_block(s, count);
    default:
        return stream_line(s);
    }
}

/* The format at this index: 'n', 'l', 'L', 'a', or '#' with a count. A wrong format is an error, as in Lua,
 * and values read before it are lost. */
static char check_format(lua_State *L, struct reading *r, size_t *count)
{
    int at = r->format;
    bool number = lua_type(L, at) == LUA_TNUMBER;
    int is_count = 0;
    lua_Integer n = number ? lua_tointegerx(L, at, &is_count) : 0;
    const char *text = number ? "" : lua_tostring(L, at);
    if (text != NULL && *text == '*')
        text++;
    if (is_count && n >= 0) {
        *count = (size_t)n;
        return '#';
    }
    if (!number && text != NULL && *text != '\0' && strchr("nlLa", *text) != NULL)
        return *text;
    stream_settle(&r->in->stream);
    reading_release(r);
    if (is_count)
        luaL_error(L, "not enough memory"); /* a negative count is a very large one */
    if (number)
        luaL_checkinteger(L, at);
    luaL_checkstring(L, at);
    luaL_argerror(L, at, "invalid format");
    return 0;
}

/* Reads the value of the next format and pushes it, or nil for NONE. */
static enum stream_status push_value(lua_State *L, struct reading *r)
{
    struct stream *s = &r->in->stream;
    char numeral[STREAM_NUMERAL + 1];
    size_t count = 0;
    char kind = check_format(L, r, &count);
    int top = lua_gettop(L);
    for (;;) {
        enum stream_status status = read_value(s, kind, count, numeral);
        if (status == STREAM_WAIT || status == STREAM_OOM)
            return status;
        if (kind == 'n') {
            stream_next(s);
            if (lua_stringtonumber(L, numeral) != 0)
                return STREAM_DONE;
            status = STREAM_NONE;
        }
        if (status == STREAM_NONE) {
            lua_pushnil(L);
            return status;
        }
        size_t len, still;
        luaL_Buffer b;
        stream_value(s, &len);
        char *copy = luaL_buffinitsize(L, &b, len);
        if (!input_is_open(r->in))
            fail_closed(L, r);
        const char *value = stream_value(s, &still);
        if (still == len) {
            memcpy(copy, value, len);
            stream_next(s);
            luaL_pushresultsize(&b, kind == 'l' && len > 0 && copy[len - 1] == '\n' ? len - 1 : len);
            return STREAM_DONE;
        }
        lua_settop(L, top); /* a finaliser has read it */
    }
}

/* Called when an iterator's step has reached the end of the file, or an error. */
static int end_of_lines(lua_State *L, struct reading *r, int results)
{
    if (results > 1)
        return luaL_error(L, "%s", lua_tostring(L, -results + 1));
    lua_getupvalue(L, lua_upvalueindex(2), STEP_CLOSES);
    if (lua_toboolean(L, -1)) {
        input_close(r->in);
        lua_pushcfunction(L, stock.close);
        lua_pushvalue(L, r->file);
        lua_call(L, 1, 0);
    }
    return 0;
}

static int finish(lua_State *L, struct reading *r)
{
    int results = lua_gettop(L) - (r->file + 1);
    int reason = r->in->stream.error;
    if (reason != 0) {
        results = fail(L, r, reason);
    } else {
        stream_settle(&r->in->stream);
        reading_release(r);
    }
    if (r->step && !lua_toboolean(L, -results))
        return end_of_lines(L, r, results);
    return results;
}

static int go_on(lua_State *L, struct reading *r)
{
    struct input *in = r->in;
    if (!input_is_open(in))
        return fail_closed(L, r);
    if (!r->begun) {
        stream_begin(&in->stream);
        r->begun = true;
    }
    if (terminal_is_held(fileno(in->of->f)))
        in->stream.reads = 0;
    enum stream_status status = STREAM_DONE;
    while (r->format <= r->last && status == STREAM_DONE) {
        bool first_wait = !r->kept;
        status = push_value(L, r);
        if (!input_is_open(in))
            return fail_closed(L, r);
        if (status == STREAM_WAIT) {
            r = in->owner = reading_keep(L, r);
            if (!input_is_open(in))
                return fail_closed(L, r);
            if (first_wait) { /* a finaliser may have read more from the descriptor than it took */
                status = STREAM_DONE;
                continue;
            }
            if (terminal_is_held(fileno(in->of->f)))
                return park(L, r, terminal_queue());
            if (in->watch == NULL)
                in->watch =
                    io_borrowed_open(sched_loop(bind_runtime(L)->sched), fileno(in->of->f), on_readable, in);
            if (in->watch == NULL)
                return fail(L, r, errno);
            if (__flbf(stdout)) /* shows a question at the terminal, as stdio does before it waits */
                fflush(stdout);
            return park(L, r, NULL);
        }
        if (status == STREAM_OOM)
            return luaL_error(L, "not enough memory");
        r->format++;
    }
    return finish(L, r);
}

/* Stack: the formats from r->format on, then the file. */
static int begin(lua_State *L, struct reading *r)
{
    struct input *in = r->in;
    if (lua_gettop(L) == r->format) { /* without a format: a line */
        lua_pushliteral(L, "l");
        lua_insert(L, -2);
    }
    r->file = lua_gettop(L);
    r->last = r->file - 1;
    lua_pushnil(L);
    luaL_checkstack(L, r->last - r->format + LUA_MINSTACK, "too many arguments");
    if (in->owner != NULL) {
        r = reading_keep(L, r);
        if (in->owner != NULL)
            return park(L, r, &in->queue);
        in->owner = r; /* a finaliser has ended the other reading */
    }
    if (in->stream.taken.len > 0) /* left by a read that ended by an error */
        stream_give_up(&in->stream);
    return go_on(L, r);
}

/* For a read that blocks: puts back what the current value of another task's read has taken so far. */
static void lend(lua_State *L, struct input *in)
{
    if (terminal_is_held(fileno(in->of->f)))
        luaL_error(L, "the prompt reads the terminal, and nothing can wait for it here "
                      "(a sort comparator, a gsub callback, __gc ...): read outside of it");
    if (!stream_lend(&in->stream))
        luaL_error(L, "not enough memory");
    /* This read may take more from the descriptor than its value, so the owner must look again. */
    if (in->owner != NULL && in->owner->wait != NULL)
        reading_wake(in->owner);
}

/* True when this read parks the task. If nothing can yield here, it blocks. */
static bool is_ours(lua_State *L, struct input *in)
{
    if (in == NULL)
        return false;
    struct sched *s = bind_runtime(L)->sched;
    if (task_current(s) != NULL && task_can_park(L, s))
        return true;
    lend(L, in);
    return false;
}

/* The usual read: one line that is already there. */
static bool push_line(lua_State *L, struct input *in, char kind)
{
    char line[512];
    size_t len = 0;
    if (in != NULL && input_is_open(in) && in->owner == NULL && (kind == 'l' || kind == 'L'))
        len = stream_short_line(&in->stream, line, sizeof line);
    if (len > 0)
        lua_pushlstring(L, line, kind == 'l' ? len - 1 : len);
    return len > 0;
}

/* The kind of line of the only format, at this index; 0 for other formats. */
static char kind_of(lua_State *L, int format)
{
    if (lua_isnone(L, format))
        return 'l';
    const char *text = lua_type(L, format) == LUA_TSTRING ? lua_tostring(L, format) : NULL;
    return text != NULL && lua_isnone(L, format + 1) ? text[text[0] == '*'] : 0;
}

/* ---- the functions ---- */

static int io_read(lua_State *L)
{
    char kind = kind_of(L, 1);
    lua_getfield(L, LUA_REGISTRYINDEX, "_IO_input");
    struct input *in = input_of(L, -1);
    if (push_line(L, in, kind))
        return 1;
    if (is_ours(L, in)) {
        struct reading r = {.in = in, .format = 1};
        return begin(L, &r);
    }
    lua_pop(L, 1);
    return stock.io_read(L);
}

static int file_read(lua_State *L)
{
    struct input *in = input_of(L, 1);
    if (push_line(L, in, kind_of(L, 2)))
        return 1;
    if (!is_ours(L, in))
        return stock.read(L);
    struct reading r = {.in = in, .format = 2};
    lua_pushvalue(L, 1);
    return begin(L, &r);
}

/* The iterator. Upvalue 2 is Lua's own iterator, which has the file and the formats; 3 the input, 4 the kind
 * of line. */
static int step(lua_State *L)
{
    struct input *in = lua_touserdata(L, lua_upvalueindex(3));
    if (!input_is_open(in))
        in = NULL;
    if (push_line(L, in, (char)lua_tointeger(L, lua_upvalueindex(4))))
        return 1;
    lua_settop(L, 1);
    if (!is_ours(L, in)) {
        lua_settop(L, 0);
        lua_pushvalue(L, lua_upvalueindex(2));
        lua_call(L, 0, LUA_MULTRET);
        return lua_gettop(L);
    }
    lua_getupvalue(L, lua_upvalueindex(2), STEP_FILE);
    lua_getupvalue(L, lua_upvalueindex(2), STEP_FORMATS);
    int formats = (int)lua_tointeger(L, -1);
    lua_pop(L, 1);
    luaL_checkstack(L, formats + 1, "too many arguments");
    for (int i = 0; i < formats; i++)
        lua_getupvalue(L, lua_upvalueindex(2), STEP_FIRST_FORMAT + i);
    lua_pushvalue(L, 2);
    lua_remove(L, 2);
    struct reading r = {.in = in, .format = 2, .step = true};
    return begin(L, &r);
}

/* Stack: the `results` values of Lua's own lines, the iterator first. The iterator keeps the file, and the
 * file its input. */
static int wrap_step(lua_State *L, int results, char kind)
{
    int at = lua_gettop(L) - results + 1;
    lua_getupvalue(L, at, STEP_FILE);
    struct input *in = input_of(L, -1);
    lua_pop(L, 1);
    if (in != NULL) {
        lua_pushlightuserdata(L, bind_runtime(L));
        lua_pushvalue(L, at);
        lua_pushlightuserdata(L, in);
        lua_pushinteger(L, kind);
        lua_pushcclosure(L, step, 4);
        lua_replace(L, at);
    }
    return results;
}

static int io_lines(lua_State *L)
{
    char kind = kind_of(L, 2);
    return wrap_step(L, stock.io_lines(L), kind);
}

static int file_lines(lua_State *L)
{
    char kind = kind_of(L, 2);
    return wrap_step(L, stock.lines(L), kind);
}

/* Lua's own functions then close the file. They do not close standard input. */
static void before_close(lua_State *L)
{
    struct input *in = lua_isnone(L, 1) ? NULL : input_known(L, 1);
    if (in != NULL && input_is_open(in) && in->of->f != stdin)
        input_close(in);
}

static int io_close(lua_State *L)
{
    before_close(L);
    return stock.io_close(L);
}

static int file_close(lua_State *L)
{
    before_close(L);
    return stock.close(L);
}

static int file_gc(lua_State *L)
{
    before_close(L);
    return stock.gc(L);
}

/* Bytes that were put back must not be lost, but C's functions would drop them, or free memory that is not
 * theirs. So seek fails, as on any pipe, and setvbuf does nothing, which is not visible. */
static int file_seek(lua_State *L)
{
    const struct input *in = input_known(L, 1);
    if (in == NULL || !input_is_open(in))
        return stock.seek(L);
    errno = ESPIPE;
    return luaL_fileresult(L, 0, NULL);
}

static int file_setvbuf(lua_State *L)
{
    const struct input *in = input_known(L, 1);
    if (in == NULL || !input_is_open(in) || in->of->f == stdout || in->of->f == stderr)
        return stock.setvbuf(L);
    static const char *const modes[] = {"no", "full", "line", NULL};
    luaL_checkoption(L, 2, NULL, modes);
    luaL_optinteger(L, 3, LUAL_BUFFERSIZE);
    return luaL_fileresult(L, 1, NULL);
}

/* ---- installing ---- */

void read_install(lua_State *L, struct runtime *rt)
{
    input_open_classes(L, rt);
    lua_getglobal(L, "io");
    stock.io_read = bind_replace(L, rt, "read", io_read);
    stock.io_lines = bind_replace(L, rt, "lines", io_lines);
    stock.io_close = bind_replace(L, rt, "close", io_close);
    luaL_getmetatable(L, LUA_FILEHANDLE);
    stock.gc = bind_replace(L, rt, "__gc", file_gc);
    bind_replace(L, rt, "__close", file_gc);
    lua_getfield(L, -1, "__index");
    stock.read = bind_replace(L, rt, "read", file_read);
    stock.lines = bind_replace(L, rt, "lines", file_lines);
    stock.close = bind_replace(L, rt, "close", file_close);
    stock.seek = bind_replace(L, rt, "seek", file_seek);
    stock.setvbuf = bind_replace(L, rt, "setvbuf", file_setvbuf);
    lua_getfield(L, -1, "read");
    lua_rawsetp(L, LUA_REGISTRYINDEX, &reader_key);
    lua_getfield(L, -3, "stdin");
    lua_rawsetp(L, LUA_REGISTRYINDEX, &stdin_key);
    lua_pop(L, 3);
}

int read_push_reader(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &reader_key);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &stdin_key);
    return 1;
}

static struct input *standard_input(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &stdin_key);
    struct input *in = input_of(L, -1);
    lua_pop(L, 1);
    return in;
}

bool read_may_wait(lua_State *L)
{
    return standard_input(L) != NULL;
}

void read_lend(lua_State *L)
{
    struct input *in = standard_input(L);
    if (in != NULL)
        lend(L, in);
}
