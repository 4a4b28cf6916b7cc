#include "bind/pg/notices.h"

#include "base/deadline.h"
#include "bind/pg/link.h"

#include <stdlib.h>
#include <string.h>

/* Limits, because a statement can cause any number of notices of any size. */
enum { MOST_NOTICES = 1000, MOST_BYTES = 8 << 20 };

static const struct {
    int code;
    const char *name;
} fields[] = {
    {PG_DIAG_SEVERITY_NONLOCALIZED, "severity"},
    {PG_DIAG_SQLSTATE, "sqlstate"},
    {PG_DIAG_MESSAGE_PRIMARY, "message"},
    {PG_DIAG_MESSAGE_DETAIL, "detail"},
    {PG_DIAG_MESSAGE_HINT, "hint"},
    {PG_DIAG_CONTEXT, "context"},
    {PG_DIAG_SCHEMA_NAME, "schema"},
    {PG_DIAG_TABLE_NAME, "table"},
    {PG_DIAG_COLUMN_NAME, "column"},
    {PG_DIAG_DATATYPE_NAME, "datatype"},
    {PG_DIAG_CONSTRAINT_NAME, "constraint"},
};

enum { FIELDS = sizeof fields / sizeof *fields };

struct pg_notice {
    struct pg_notice *next;
    size_t bytes;
    char *field[FIELDS];
};

/* ---- collecting, without Lua ---- */

static void notice_free(struct pg_notice *n)
{
    for (int i = 0; i < FIELDS; i++)
        free(n->field[i]);
    free(n);
}

void pg_notices_clear(struct pg_notices *list)
{
    while (list->first) {
        struct pg_notice *n = list->first;
        list->first = n->next;
        notice_free(n);
    }
    *list = (struct pg_notices){0};
}

static void add(struct pg_notices *list, const PGresult *r)
{
    bool room = list->n < MOST_NOTICES && list->bytes < MOST_BYTES;
    struct pg_notice *n = room ? calloc(1, sizeof *n) : NULL;
    if (!n) {
        list->lost++;
        return;
    }
    for (int i = 0; i < FIELDS; i++) {
        const char *text = PQresultErrorField(r, fields[i].code);
        n->field[i] = text ? strdup(text) : NULL;
        n->bytes += text ? strlen(text) : 0;
    }
    list->bytes += n->bytes;
    if (list->last)
        list->last->next = n;
    else
        list->first = n;
    list->last = n;
    list->n++;
}

static const int *handler_of(const struct pg_link *link)
{
    return link->on_notice != LUA_NOREF ? &link->on_notice : &link->engine->on_notice;
}

void pg_notices_receive(void *data, const PGresult *r)
{
    struct pg_link *link = data;
    const struct log *log = link->engine->rt->log;
    const char *severity = PQresultErrorField(r, PG_DIAG_SEVERITY);
    const char *message = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
    log_write(log, LOG_LEVEL_INFO, "postgres: %s: %s", severity ? severity : "NOTICE",
              message ? message : "");
    pg_machine_note_end(&link->m, r);
    if (link->user && link->user->upkeep)
        return; /* a statement of the pool: no handler gets its notices */
    if (link->user && link->user->shared && link->engine->on_notice != LUA_NOREF)
        add(&link->engine->notices, r);
    else if (*handler_of(link) != LUA_NOREF)
        add(&link->notices, r);
}

/* ---- calling the handler, in the task ---- */

static void push_notice(lua_State *L, const struct pg_notice *n)
{
    lua_createtable(L, 0, 4);
    for (int i = 0; i < FIELDS; i++) {
        if (!n->field[i])
            continue;
        lua_pushstring(L, n->field[i]);
        lua_setfield(L, -2, fields[i].name);
    }
}

/* Protected call: (reference of the handler, notice). */
static int tell_one(lua_State *L)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, (int)lua_tointeger(L, 1));
    push_notice(L, lua_touserdata(L, 2));
    lua_call(L, 1, 0);
    return 0;
}

static int as_text(lua_State *L)
{
    luaL_tolstring(L, 1, NULL);
    return 1;
}

static struct pg_notice *take_first(struct pg_notices *list)
{
    struct pg_notice *n = list->first;
    list->first = n->next;
    list->n--;
    list->bytes -= n->bytes;
    if (!list->first)
        list->last = NULL;
    return n;
}

/* Calls the handler for each notice. The statement has ended, so an error of the handler goes to the log,
 * also "not enough memory", because nothing outside the protected call allocates. The handler can remove
 * itself or close the engine: so `handler` is read again for each notice. `telling` is set while the handler
 * runs; NULL = not needed. */
static void tell(lua_State *L, struct runtime *rt, struct pg_notices *list, const int *handler, bool *telling)
{
    while (list->first && *handler != LUA_NOREF && lua_checkstack(L, 6)) {
        struct pg_notice *n = take_first(list);
        lua_pushcfunction(L, as_text);
        lua_pushcfunction(L, tell_one);
        lua_pushinteger(L, *handler);
        lua_pushlightuserdata(L, n);
        if (telling)
            *telling = true;
        int status = lua_pcall(L, 2, 0, -4);
        if (telling)
            *telling = false;
        notice_free(n);
        if (status != LUA_OK && sched_interrupted(rt->sched))
            sched_raise_interrupted(L, rt->sched);
        if (status != LUA_OK)
            log_write(rt->log, LOG_LEVEL_ERROR, "postgres: on_notice failed: %s",
                      lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "error in its error");
        lua_pop(L, status == LUA_OK ? 1 : 2);
    }
    if (list->lost)
        log_write(rt->log, LOG_LEVEL_WARN,
                  "postgres: %u more notices were dropped: on_notice did not get them", list->lost);
    list->lost = 0;
}

void pg_notices_tell(lua_State *L, struct pg_link *link)
{
    if (!link->notices.first || link->telling)
        return;
    if (*handler_of(link) != LUA_NOREF)
        tell(L, link->engine->rt, &link->notices, handler_of(link), &link->telling);
    pg_notices_clear(&link->notices); /* these have no handler */
}

void pg_notices_tell_shared(lua_State *L, struct pg_engine *e)
{
    if (e->notices.first && e->on_notice != LUA_NOREF)
        tell(L, e->rt, &e->notices, &e->on_notice, NULL);
}

void pg_notices_forget(struct pg_link *link)
{
    luaL_unref(link->engine->rt->L, LUA_REGISTRYINDEX, link->on_notice);
    link->on_notice = LUA_NOREF;
    pg_notices_clear(&link->notices);
}
