#include "bind/redis/exec.h"

#include "bind/base/error.h"
#include "bind/redis/handle.h"
#include "bind/redis/reply.h"
#include "redis/codes.h"

#include <string.h>

/* Adds why the server refused the transaction: the reply to the command, or the rest of the message. */
static void add_cause(struct error *e, const struct redis_session *s, const struct resp_item *item,
                      const struct resp_item *cause)
{
    static const char because[] = "because of: ";
    const char *from = cause->text;
    size_t len = (size_t)cause->size;
    if (cause->type != RESP_ERROR) {
        from = memmem(item->text, item->size, because, sizeof because - 1);
        if (!from)
            return;
        from += sizeof because - 1;
        len = (size_t)(item->text + item->size - from);
    }
    char text[512], code[REDIS_CODE_SIZE];
    len = len < sizeof text - 1 ? len : sizeof text - 1;
    memcpy(text, from, len);
    text[len] = '\0';
    error_set_field(e, ERROR_DETAIL, text);
    redis_code_read(text, len, code);
    bool demoted = s->pool->target->sentinels && strcmp(code, "READONLY") == 0;
    e->retryable = demoted || redis_code_is_transient(code);
}

static int raise_aborted(lua_State *L, struct session_call *c, const struct resp_item *item,
                         const struct redis_queued *queued)
{
    struct error e = {0};
    redis_reply_error(item, "EXEC", &e);
    add_cause(&e, c->session, item, &queued->cause);
    redis_taken(c);
    return bind_error_raise(L, bind_runtime(L), &e);
}

/* Raises when MULTI failed: the server then took the commands one by one. */
static int raise_not_begun(lua_State *L, struct session_call *c, const struct redis_queued *queued)
{
    struct error e = {0};
    redis_reply_error(&queued->multi, "MULTI", &e);
    if (queued->accepted) {
        e.outcome = OUTCOME_UNKNOWN;
        e.retryable = false;
        error_set_field(&e, ERROR_HINT,
                        "there was no transaction: the server refused MULTI, and ran, one by one, the "
                        "commands that it did not refuse");
    }
    redis_taken(c);
    return bind_error_raise(L, bind_runtime(L), &e);
}

/* True when a command with this error reply has changed nothing. A script may have written before it
 * failed. */
static bool is_refusal(const struct resp_item *item)
{
    struct error e = {0};
    redis_reply_error(item, NULL, &e);
    bool refused = e.outcome == OUTCOME_FAILED;
    error_clear(&e);
    return refused;
}

struct redis_queued redis_queued_read(struct resp_cursor *cur, uint32_t n, uint32_t multi)
{
    struct redis_queued q = {.multi = {.type = RESP_NIL}, .cause = {.type = RESP_NIL}};
    struct resp_item item;
    for (uint32_t i = 0; i < n && resp_next(cur, &item); i++) {
        if (i == multi)
            q.multi = item;
        q.accepted = q.accepted || (i > multi && !(item.type == RESP_ERROR && is_refusal(&item)));
        if (item.type == RESP_ERROR && q.cause.type != RESP_ERROR)
            q.cause = item;
        while (item.type == RESP_ARRAY && item.size-- > 0)
            resp_skip(cur);
    }
    return q;
}

/* Raises for a reply that no server sends: the outcome of the commands is unknown. */
static int raise_no_list(lua_State *L, struct session_call *c, uint32_t commands)
{
    struct error e = {0};
    error_set(&e, ERROR_PROTOCOL, "redis: the reply to EXEC is not a list of %u replies", (unsigned)commands);
    e.outcome = OUTCOME_UNKNOWN;
    error_set_field(&e, ERROR_HINT,
                    "is there a proxy in front of the server that does not support transactions?");
    redis_taken(c);
    return bind_error_raise(L, bind_runtime(L), &e);
}

void redis_exec_check(lua_State *L, struct session_call *c, const struct resp_item *item,
                      const struct redis_queued *queued, uint32_t commands)
{
    if (queued->multi.type == RESP_ERROR)
        raise_not_begun(L, c, queued);
    if (item->type == RESP_ERROR)
        raise_aborted(L, c, item, queued);
    if (item->type != RESP_NIL && (item->type != RESP_ARRAY || item->size != commands))
        raise_no_list(L, c, commands);
}
