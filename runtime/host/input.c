#include "host/input.h"

#include <lualib.h>

#define INPUT_CLASS   "dbrun.input"
#define READING_CLASS "dbrun.reading"

/* Its address is the key of the table: file -> struct input, or false for a file on which reads never
 * wait. */
static const char inputs_key;

bool input_is_open(const struct input *in)
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
        *in = (struct input){.of = of, .stream = {.file = of->f, .reads = INPUT_READS_AT_ONCE}};
        luaL_setmetatable(L, INPUT_CLASS);
    } else {
        lua_pushboolean(L, 0);
    }
    lua_rawset(L, -3);
    lua_pop(L, 1);
    return in;
}

struct input *input_of(lua_State *L, int file)
{
    file = lua_absindex(L, file);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &inputs_key);
    lua_pushvalue(L, file);
    bool known = lua_rawget(L, -2) != LUA_TNIL;
    struct input *in = lua_touserdata(L, -1);
    lua_pop(L, 2);
    if (!known)
        in = make_input(L, file);
    return in != NULL && input_is_open(in) ? in : NULL;
}

struct input *input_known(lua_State *L, int file)
{
    file = lua_absindex(L, file);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &inputs_key);
    lua_pushvalue(L, file);
    lua_rawget(L, -2);
    struct input *in = lua_touserdata(L, -1);
    lua_pop(L, 2);
    return in;
}

static void leave_queue(struct reading *r)
{
    if (r->wait != NULL && r->queue != NULL)
        wait_queue_remove(r->queue, r->wait);
    r->queue = NULL;
}

void reading_wake(struct reading *r)
{
    struct wait *w = r->wait;
    leave_queue(r);
    r->wait = NULL;
    wait_wake(w);
}

struct reading *reading_pop(struct wait_queue *queue)
{
    struct wait *w = wait_queue_pop(queue);
    struct reading *r = w != NULL ? w->data : NULL;
    if (r != NULL)
        r->queue = NULL;
    return r;
}

static void hand_over(struct input *in)
{
    in->owner = reading_pop(&in->queue);
    if (in->owner != NULL)
        reading_wake(in->owner);
    else if (in->watch != NULL)
        io_borrowed_want(in->watch, false); /* otherwise it would keep the loop alive */
}

void reading_release(struct reading *r)
{
    struct input *in = r->in;
    if (r->over)
        return;
    r->over = true;
    leave_queue(r);
    if (in->owner == r || !r->kept) {
        if (input_is_open(in))
            stream_give_up(&in->stream);
        hand_over(in);
    }
    r->wait = NULL;
}

void input_close(struct input *in)
{
    struct reading *r;
    io_borrowed_close(in->watch);
    in->watch = NULL;
    in->of = NULL;
    buf_free(&in->stream.taken);
    in->stream = (struct stream){0};
    if (in->owner != NULL)
        reading_wake(in->owner);
    in->owner = NULL;
    while ((r = reading_pop(&in->queue)) != NULL)
        reading_wake(r);
}

static int input_gc(lua_State *L)
{
    input_close(luaL_checkudata(L, 1, INPUT_CLASS));
    return 0;
}

static int reading_close(lua_State *L)
{
    reading_release(luaL_checkudata(L, 1, READING_CLASS));
    return 0;
}

struct reading *reading_keep(lua_State *L, struct reading *r)
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

void input_open_classes(lua_State *L, struct runtime *rt)
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
