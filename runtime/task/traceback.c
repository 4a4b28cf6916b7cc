/* The traceback of the error that a task raised, and the report of a task that failed. */
#include "task/impl.h"

#include <lauxlib.h>
#include <string.h>

bool traceback_is_cancelled(lua_State *L)
{
    if (!lua_istable(L, -1))
        return false;
    lua_pushliteral(L, "kind");
    lua_rawget(L, -2);
    const char *kind = lua_tostring(L, -1);
    bool is = kind && strcmp(kind, "cancelled") == 0;
    lua_pop(L, 1);
    return is;
}

/* ---- failures: an error with its traceback ----
 *
 * Two tasks can raise equal texts. So a traceback is not found by the error's value: each task keeps its own
 * failure, and groups and join pass it on with the error. */

#define FAILURE_CLASS "dbrun.failure"

enum { FAILURE_ERROR = 1, FAILURE_TRACEBACK, FAILURE_VALUES = FAILURE_TRACEBACK };

void failure_class(lua_State *L)
{
    luaL_newmetatable(L, FAILURE_CLASS);
    lua_pop(L, 1);
}

/* Pushes the failure that the task keeps, or nil. */
static void push_kept(lua_State *L, const struct task *t)
{
    if (t->ref == LUA_NOREF) { /* the main thread */
        lua_rawgetp(L, LUA_REGISTRYINDEX, &t->received);
        return;
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, t->ref);
    lua_getiuservalue(L, -1, TASK_UV_FAILURE);
    lua_remove(L, -2);
}

/* Takes the failure on top. */
static void keep(lua_State *L, struct task *t, bool received)
{
    t->received = received;
    if (t->ref == LUA_NOREF) {
        lua_rawsetp(L, LUA_REGISTRYINDEX, &t->received);
        return;
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, t->ref);
    lua_insert(L, -2);
    lua_setiuservalue(L, -2, TASK_UV_FAILURE);
    lua_pop(L, 1);
}

/* Pushes the traceback that the task keeps for the error at this index; pushes nothing when there is none. */
static bool push_traceback_of(lua_State *L, const struct task *t, int index)
{
    index = lua_absindex(L, index);
    push_kept(L, t);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        return false;
    }
    lua_getiuservalue(L, -1, FAILURE_ERROR);
    bool known = lua_rawequal(L, -1, index);
    lua_pop(L, 1);
    lua_getiuservalue(L, -1, FAILURE_TRACEBACK);
    lua_remove(L, -2);
    if (!known)
        lua_pop(L, 1);
    return known;
}

static bool has_identity(lua_State *L, int index)
{
    int type = lua_type(L, index);
    return type != LUA_TSTRING && type != LUA_TNUMBER && type != LUA_TBOOLEAN && type != LUA_TNIL;
}

/* Ignores cancellations, because most of them follow from the error whose traceback is wanted. */
int sched_note_error(lua_State *L, struct sched *s)
{
    struct task *t = s->current;
    if (traceback_is_cancelled(L))
        return 1;
    if (push_traceback_of(L, t, 1)) { /* passed on by a group or join, or the same object raised again */
        lua_pop(L, 1);
        if (t->received || has_identity(L, 1))
            return 1;
    }
    lua_newuserdatauv(L, 0, FAILURE_VALUES);
    luaL_setmetatable(L, FAILURE_CLASS);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, FAILURE_ERROR);
    luaL_traceback(L, L, NULL, 1);
    lua_setiuservalue(L, -2, FAILURE_TRACEBACK);
    keep(L, t, false);
    return 1;
}

bool sched_push_traceback(lua_State *L, struct sched *s, int index)
{
    return push_traceback_of(L, s->current, index);
}

void failure_end(const struct task *t)
{
    lua_State *L = t->co;
    lua_checkstack(L, 4);
    if (!push_traceback_of(L, t, -1))
        return;
    lua_pop(L, 1);
    push_kept(L, t);
    lua_replace(L, -2);
}

void failure_receive(lua_State *L, struct sched *s)
{
    if (!luaL_testudata(L, -1, FAILURE_CLASS))
        return;
    lua_pushvalue(L, -1);
    keep(L, s->current, true);
    lua_getiuservalue(L, -1, FAILURE_ERROR);
    lua_remove(L, -2);
}

static int note(lua_State *L)
{
    return sched_note_error(L, sched_upvalue(L));
}

void sched_push_handler(lua_State *L, struct sched *s)
{
    lua_pushlightuserdata(L, s);
    lua_pushcclosure(L, note, 1);
}

void traceback_attach(lua_State *L, struct sched *s)
{
    failure_receive(L, s);
    if (!push_traceback_of(L, s->current, -1))
        return;
    if (lua_type(L, -2) == LUA_TSTRING || lua_type(L, -2) == LUA_TNUMBER) {
        lua_pushfstring(L, "%s\n%s", lua_tostring(L, -2), lua_tostring(L, -1));
        lua_replace(L, -3);
        lua_pop(L, 1);
        return;
    }
    if (lua_istable(L, -2)) {
        lua_pushliteral(L, "traceback");
        lua_insert(L, -2);
        lua_rawset(L, -3);
        return;
    }
    lua_pop(L, 1);
}

void sched_on_failure(struct sched *s, void (*fn)(lua_State *L, void *data), void *data)
{
    s->on_failure = fn;
    s->on_failure_data = data;
}

bool sched_report_failure(lua_State *L, struct sched *s)
{
    if (!s->on_failure || s->interrupt_reason)
        return false;
    luaL_checkstack(L, 16, NULL);
    traceback_attach(L, s);
    s->on_failure(L, s->on_failure_data);
    return true;
}
