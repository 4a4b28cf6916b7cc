#include "bind/redis/command_trace.h"

#include "redis/codes.h"

#include <string.h>

static struct trace_event begin(lua_State *L, struct runtime *rt, enum trace_cat cat,
                                struct script_place *place)
{
    place->line = 0;
    script_place(L, 1, place);
    return (struct trace_event){
        .cat = cat, .file = place->file, .line = place->line, .task = task_id(task_current(rt->sched))};
}

/* The code of an error reply, such as WRONGTYPE; empty when the reply is no error. */
static void read_code(const struct session_call *c, char *code)
{
    struct resp_cursor cur = resp_cursor(&c->call.reply);
    struct resp_item item = {.type = RESP_NIL};
    code[0] = '\0';
    if (resp_next(&cur, &item) && item.type == RESP_ERROR)
        redis_code_read(item.text, (size_t)item.size, code);
}

void redis_trace_command(lua_State *L, struct runtime *rt, struct wait *w, enum wait_status status,
                         const struct session_call *c, const char *name, bool batch)
{
    struct script_place place;
    char code[REDIS_CODE_SIZE] = "";
    struct trace_event event = begin(L, rt, TRACE_REDIS, &place);
    event.name = !batch ? name : strcmp(name, "the transaction") == 0 ? "transaction" : "pipeline";
    event.count = batch && c ? c->expect : 0;
    event.until = trace_resumed(rt->trace, &w->span);
    if (status != WAIT_DONE)
        event.kind = error_kind_name(status == WAIT_TIMEOUT ? ERROR_TIMEOUT : ERROR_CANCELLED);
    else if (c->failed)
        event.kind = error_kind_name(c->error ? c->error->kind : ERROR_CONNECT);
    else if (!batch)
        read_code(c, code);
    if (code[0])
        event.kind = error_kind_name(ERROR_REDIS);
    event.code = code[0] ? code : NULL;
    trace_end(rt->trace, &w->span, &event);
}

void redis_trace_waited(lua_State *L, struct runtime *rt, struct wait *w, const char *kind)
{
    struct script_place place;
    struct trace_event event = begin(L, rt, TRACE_POOL, &place);
    event.name = "wait for a connection";
    event.redis = true;
    event.kind = kind;
    trace_end(rt->trace, &w->span, &event);
}
