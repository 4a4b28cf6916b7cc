/*
 * Each file that a task may have to wait for has a struct input. A read that has to wait owns it until its
 * last byte, so that what two tasks read at once is neither mixed nor lost; others queue.
 *
 *   free --STREAM_WAIT--> owned, its task parks --readable--> goes on, and may park again
 *                         owned --all values, an error, cancelled--> owned by the next of the queue, or free
 *
 * Any allocation may run a finaliser of the script's, which may read from the same file (it cannot wait: it
 * gets what the value under way has taken) or close it. So each value is looked at again behind the last
 * allocation.
 */
#include "host/input.h"

#include "base/deadline.h"
#include "io/borrowed.h"
#include "io/stream.h"

#include <errno.h>
#include <lualib.h>
#include <stdint.h>
#include <stdio_ext.h>
#include <string.h>

#define INPUT_CLASS   "dbrun.input"
#define READING_CLASS "dbrun.reading"

/* After so many reads of the descriptor the other tasks have their turn. */
enum { READS_AT_ONCE = 16 };

/* Its address is the key of the table: file -> struct input, or false for one that makes nobody wait. */
static const char inputs_key;
/* Of the function and the file of input_push_reader. */
static const char reader_key;
static const char stdin_key;

/* Lua's own functions. They have no upvalues, so they can be called in place of ours. */
static struct {
    lua_CFunction io_read, io_lines, io_close, read, lines, close, gc;
} stock;

struct input {
    luaL_Stream *of; /* NULL: closed */
    struct stream stream;
    struct io_borrowed *watch; /* opened at the first wait */
    struct reading *owner;
    struct wait_queue queue; /* its waits' data are the readings that come next */
};

/* One call of io.read, or one step of an iterator of io.lines. */
struct reading {
    struct input *in;
    struct wait *wait; /* while its task is parked */
    int file;          /* stack index of the file; the userdata of this stands behind it, then the results */
    int format;        /* ... of the next format */
    int last;          /* ... of the last format */
    bool kept;         /* in its userdata: from its first wait on */
    bool begun;
    bool over;
    bool step; /* of an iterator, whose upvalue 2 is Lua's own */
};

enum { STEP_FILE = 1, STEP_FORMATS, STEP_CLOSES, STEP_FIRST_FORMAT }; /* upvalues of Lua's own iterator */

/* ---- the input of a file ---- */

static bool is_open(const struct input *in)
{
    return in->of != NULL && in->of->closef != NULL;
}

static struct input *make_input(lua_State *L, int file)
{
    luaL_Stream *of = luaL_testudata(L, file, LUA_FILEHANDLE);
    if (of == NULL || of->closef == NULL)
        return NULL;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &inputs_key);
    lua_pushvalue(L, file);
    struct input *in = NULL;
    if (stream_may_wait(of->f)) {
        in = lua_newuserdatauv(L, sizeof *in, 0);
        *in = (struct input){.of = of, .stream = {.file = of->f, .reads = READS_AT_ONCE}};
        luaL_setmetatable(L, INPUT_CLASS);
    } else {
        lua_pushboolean(L, 0);
    }
    lua_rawset(L, -3);
    lua_pop(L, 1);
    return in;
}

/* NULL: leave this file to Lua's own functions. */
static struct input *input_of(lua_State *L, int file)
{
    file = lua_absindex(L, file);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &inputs_key);
    lua_pushvalue(L, file);
    bool known = lua_rawget(L, -2) != LUA_TNIL;
    struct input *in = lua_touserdata(L, -1);
    lua_pop(L, 2);
    if (!known)
        return make_input(L, file);
    return in != NULL && is_open(in) ? in : NULL;
}

static void wake(struct reading *r)
{
    struct wait *w = r->wait;
    r->wait = NULL;
    wait_wake(w);
}

static void hand_over(struct input *in)
{
    struct wait *next = wait_queue_pop(&in->queue);
    in->owner = next != NULL ? next->data : NULL;
    if (next != NULL)
        wake(in->owner);
}

/* The reading is over; what it took and did not settle goes back into the file. */
static void release(struct reading *r)
{
    struct input *in = r->in;
    if (r->over)
        return;
    r->over = true;
    if (in->owner == r || !r->kept) {
        if (is_open(in))
            stream_give_up(&in->stream);
        hand_over(in);
    } else if (r->wait != NULL) {
        wait_queue_remove(&in->queue, r->wait);
    }
    r->wait = NULL;
}

/* Before its file is closed: tasks that wait for it are told. */
static void close_input(struct input *in)
{
    struct wait *w;
    io_borrowed_close(in->watch);
    in->watch = NULL;
    in->of = NULL;
    buf_free(&in->stream.taken);
    in->stream = (struct stream){0};
    if (in->owner != NULL)
        wake(in->owner);
    in->owner = NULL;
    while ((w = wait_queue_pop(&in->queue)) != NULL)
        wake(w->data);
}

static int input_gc(lua_State *L)
{
    close_input(luaL_checkudata(L, 1, INPUT_CLASS));
    return 0;
}

static int reading_close(lua_State *L)
{
    release(luaL_checkudata(L, 1, READING_CLASS));
    return 0;
}

/* ---- waiting ---- */

static int go_on(lua_State *L, struct reading *r);

static void on_readable(void *data, unsigned events)
{
    (void)events;
    struct input *in = data;
    io_borrowed_want(in->watch, false);
    if (in->owner != NULL)
        wake(in->owner);
}

static void abandon(struct wait *w)
{
    release(w->data);
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
    r->in->stream.reads = READS_AT_ONCE;
    return go_on(L, r);
}

/* Moves it into its userdata, which ends it whatever becomes of the coroutine. */
static struct reading *keep(lua_State *L, struct reading *r)
{
    if (r->kept)
        return r;
    struct reading *kept = lua_newuserdatauv(L, sizeof *kept, 0);
    *kept = *r;
    kept->kept = true;
    luaL_setmetatable(L, READING_CLASS);
    lua_replace(L, kept->file + 1);
    lua_toclose(L, kept->file + 1);
    return kept;
}

static int park(lua_State *L, struct reading *r, bool for_bytes)
{
    struct sched *s = bind_runtime(L)->sched;
    task_check_park(L, s);
    r->wait = wait_begin(s, DEADLINE_NEVER, abandon, r);
    if (for_bytes)
        io_borrowed_want(r->in->watch, true);
    else
        wait_queue_push(&r->in->queue, r->wait);
    return wait_park(L, r->wait, (lua_KContext)r, resumed);
}

/* What nil, a message and a number tell. Stack: results of the reading, which are dropped. */
static int fail(lua_State *L, struct reading *r, int reason)
{
    release(r);
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

/* The format at this index: 'n', 'l', 'L', 'a', or '#' with a count. A wrong one is an error, as in Lua, and
 * what was read before it is gone. */
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
    release(r);
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
        if (!is_open(r->in))
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

/* An iterator's step has come to the end of the file, or to an error. */
static int end_of_lines(lua_State *L, struct reading *r, int results)
{
    if (results > 1)
        return luaL_error(L, "%s", lua_tostring(L, -results + 1));
    lua_getupvalue(L, lua_upvalueindex(2), STEP_CLOSES);
    if (lua_toboolean(L, -1)) {
        close_input(r->in);
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
        release(r);
    }
    if (r->step && !lua_toboolean(L, -results))
        return end_of_lines(L, r, results);
    return results;
}

static int go_on(lua_State *L, struct reading *r)
{
    struct input *in = r->in;
    if (!is_open(in))
        return fail_closed(L, r);
    if (!r->begun) {
        stream_begin(&in->stream);
        r->begun = true;
    }
    enum stream_status status = STREAM_DONE;
    while (r->format <= r->last && status == STREAM_DONE) {
        status = push_value(L, r);
        if (status == STREAM_WAIT) {
            r = in->owner = keep(L, r);
            if (in->watch == NULL)
                in->watch =
                    io_borrowed_open(sched_loop(bind_runtime(L)->sched), fileno(in->of->f), on_readable, in);
            if (in->watch == NULL)
                return fail(L, r, errno);
            if (__flbf(stdout)) /* a question at the terminal, as when stdio waits */
                fflush(stdout);
            return park(L, r, true);
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
    if (lua_gettop(L) == r->format) { /* no format is a line */
        lua_pushliteral(L, "l");
        lua_insert(L, -2);
    }
    r->file = lua_gettop(L);
    r->last = r->file - 1;
    lua_pushnil(L);
    luaL_checkstack(L, r->last - r->format + LUA_MINSTACK, "too many arguments");
    if (in->owner != NULL)
        return park(L, keep(L, r), false);
    if (in->stream.taken.len > 0) /* of a read that ended by an error */
        stream_give_up(&in->stream);
    return go_on(L, r);
}

/* Does this read wait by itself? If nothing can yield here it blocks, and gets first what the value that
 * another task reads has taken so far. */
static bool is_ours(lua_State *L, struct input *in)
{
    if (in == NULL)
        return false;
    struct sched *s = bind_runtime(L)->sched;
    if (task_current(s) != NULL && task_can_park(L, s))
        return true;
    if (!stream_lend(&in->stream))
        luaL_error(L, "not enough memory");
    return false;
}

/* Most reads: of one line that is there already. */
static bool push_line(lua_State *L, struct input *in, char kind)
{
    char line[512];
    size_t len = 0;
    if (in != NULL && in->owner == NULL && (kind == 'l' || kind == 'L'))
        len = stream_short_line(&in->stream, line, sizeof line);
    if (len > 0)
        lua_pushlstring(L, line, kind == 'l' ? len - 1 : len);
    return len > 0;
}

/* Of the only format, at this index; 0 for another kind. */
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

/* The iterator. Upvalue 2 is Lua's own, which has the file and the formats; 3 the input, 4 the kind of line.
 */
static int step(lua_State *L)
{
    struct input *in = lua_touserdata(L, lua_upvalueindex(3));
    if (!is_open(in))
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

/* Stack: what Lua's own lines has left, `results` values, the iterator first. The iterator keeps the file,
 * and the file its input. */
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

/* Lua's own functions close the file then. They do not close standard input. */
static void before_close(lua_State *L)
{
    if (lua_isnone(L, 1))
        return;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &inputs_key);
    lua_pushvalue(L, 1);
    lua_rawget(L, -2);
    struct input *in = lua_touserdata(L, -1);
    if (in != NULL && is_open(in) && in->of->f != stdin)
        close_input(in);
    lua_pop(L, 2);
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

/* ---- installing ---- */

/* Replaces the function in the table on top of the stack, and returns the one that was there. */
static lua_CFunction replace(lua_State *L, struct runtime *rt, const char *name, lua_CFunction by)
{
    lua_getfield(L, -1, name);
    lua_CFunction before = lua_tocfunction(L, -1);
    lua_pop(L, 1);
    lua_pushlightuserdata(L, rt);
    lua_pushcclosure(L, by, 1);
    lua_setfield(L, -2, name);
    return before;
}

static void make_classes(lua_State *L, struct runtime *rt)
{
    static const luaL_Reg input_meta[] = {{"__gc", input_gc}, {NULL, NULL}};
    static const luaL_Reg reading_meta[] = {{"__close", reading_close}, {NULL, NULL}};
    bind_class(L, rt, INPUT_CLASS, input_meta, NULL);
    bind_class(L, rt, READING_CLASS, reading_meta, NULL);
    lua_newtable(L);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "k");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &inputs_key);
    lua_pop(L, 2);
}

void input_install(lua_State *L, struct runtime *rt)
{
    make_classes(L, rt);
    lua_getglobal(L, "io");
    stock.io_read = replace(L, rt, "read", io_read);
    stock.io_lines = replace(L, rt, "lines", io_lines);
    stock.io_close = replace(L, rt, "close", io_close);
    luaL_getmetatable(L, LUA_FILEHANDLE);
    stock.gc = replace(L, rt, "__gc", file_gc);
    replace(L, rt, "__close", file_gc);
    lua_getfield(L, -1, "__index");
    stock.read = replace(L, rt, "read", file_read);
    stock.lines = replace(L, rt, "lines", file_lines);
    stock.close = replace(L, rt, "close", file_close);
    lua_getfield(L, -1, "read");
    lua_rawsetp(L, LUA_REGISTRYINDEX, &reader_key);
    lua_getfield(L, -3, "stdin");
    lua_rawsetp(L, LUA_REGISTRYINDEX, &stdin_key);
    lua_pop(L, 3);
}

int input_push_reader(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &reader_key);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &stdin_key);
    return 1;
}
