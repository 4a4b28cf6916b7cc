#include "bind/redis/command_log.h"

#include "base/deadline.h"

#include <string.h>

enum { LONGEST_ARGUMENT = 200 }; /* bytes of it that the log shows */

/* The command's arguments, from `first` on. */
static void log_arguments(lua_State *L, struct log_line *line, int first, int top)
{
    struct buf list = {0};
    for (int i = first; i <= top; i++) {
        size_t len = 0;
        const char *text = lua_type(L, i) == LUA_TSTRING ? lua_tolstring(L, i, &len) : NULL;
        buf_adds(&list, i > first ? " " : "");
        if (text)
            buf_add(&list, text, len < LONGEST_ARGUMENT ? len : LONGEST_ARGUMENT);
        else if (lua_isinteger(L, i))
            buf_addf(&list, "%lld", (long long)lua_tointeger(L, i));
        else
            buf_adds(&list, lua_typename(L, lua_type(L, i)));
    }
    log_text(line, "arguments", list.data ? list.data : "", list.len);
    buf_free(&list);
}

/* True when its arguments can be passwords: of a login, a user, a setting, another server. */
static bool carries_secrets(const char *name)
{
    static const char *const names[] = {"AUTH", "HELLO", "ACL", "CONFIG", "MIGRATE", "SENTINEL"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

/* The length of an error reply without arguments, which the server repeats for a command that it does not
 * know. */
static size_t without_arguments(const char *text, size_t size)
{
    static const char behind[] = ", with args beginning with";
    const char *at = memmem(text, size, behind, sizeof behind - 1);
    return at ? (size_t)(at - text) : size;
}

/* The command has ended. */
void redis_log_command(lua_State *L, const struct session_call *c, const char *what, int first)
{
    int top = lua_gettop(L);
    struct log_line line;
    struct resp_cursor cur = resp_cursor(&c->call.reply);
    struct resp_item item = {.type = RESP_NIL};
    char where[SCRIPT_WHERE];
    const struct log *log = c->session->rt->log;
    bool secret = carries_secrets(what);
    bool refused = !c->failed && resp_next(&cur, &item) && item.type == RESP_ERROR;
    log_begin(&line, log, LOG_LEVEL_DEBUG, "redis: command", sizeof "redis: command" - 1);
    log_milliseconds(&line, "ms", mono_now() - c->began);
    log_text(&line, "command", what, strlen(what));
    if (log->parameters && first > 0 && first <= top && !secret)
        log_arguments(L, &line, first, top);
    if (refused)
        log_text(&line, "error", item.text, secret ? without_arguments(item.text, item.size) : item.size);
    else if (c->failed && c->error && c->error->message)
        log_text(&line, "error", c->error->message, strlen(c->error->message));
    if (script_where(L, 1, where, sizeof where))
        log_text(&line, "place", where, strlen(where));
    log_end(&line);
}
