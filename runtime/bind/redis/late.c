/* The errors of commands that were not sent, or not answered, before their deadline. */
#include "bind/base/error.h"
#include "bind/redis/handle.h"
#include "redis/codes.h"

/* Adds why nothing was sent: the server's reply to new connections, or why the last attempt to connect
 * failed. */
static void explain_not_sent(struct error *e, const struct redis_session *s, const char *what)
{
    const char *label = s->pool->target->label, *code = s->link ? NULL : s->pool->target->waits_for;
    const char *hint = "no connection could be opened in time: check that the server is reachable";
    char *const *trouble = s->trouble.field;
    if (s->link)
        hint = "the server does not read what was sent before: does it hang (redis-cli ping)?";
    else if (code)
        hint = redis_code_hint(code);
    else if (trouble && trouble[ERROR_HINT])
        hint = trouble[ERROR_HINT];
    error_set(e, ERROR_TIMEOUT, "redis at %s: %s could not be sent before its deadline%s%s", label, what,
              code ? ": the server answers " : "", code ? code : "");
    if (!s->link && !code && s->trouble.message) {
        error_set_field(e, ERROR_DETAIL, s->trouble.message);
        code = trouble ? trouble[ERROR_CODE] : NULL;
    }
    error_set_field(e, ERROR_CODE, code);
    error_set_field(e, ERROR_HINT, hint);
}

/* For a shared connection that has no place in the pool. */
static void explain_no_place(struct error *e, const struct redis_session *s, const char *what)
{
    struct error full = {0};
    redis_pool_explain(s->pool, POOL_WAITING, 0, &full);
    error_set(e, ERROR_TIMEOUT,
              "redis at %s: %s could not be sent before its deadline: all connections are in use",
              s->pool->target->label, what);
    error_set_field(e, ERROR_DETAIL, full.field[ERROR_DETAIL]);
    error_set_field(e, ERROR_HINT, full.field[ERROR_HINT]);
    error_clear(&full);
}

int redis_raise_timeout(lua_State *L, struct redis_session *s, enum error_outcome outcome, const char *what)
{
    struct error e = {0};
    bool sent = outcome != OUTCOME_NOT_SENT;
    if (sent)
        error_set(&e, ERROR_TIMEOUT, "redis at %s: %s was not answered before its deadline",
                  s->pool->target->label, what);
    else if (s->acquiring && !redis_pool_is_connecting(s->pool))
        explain_no_place(&e, s, what);
    else
        explain_not_sent(&e, s, what);
    e.outcome = outcome;
    e.retryable = !sent;
    return bind_error_raise(L, s->rt, &e);
}

int redis_raise_over(lua_State *L, const struct redis_session *s, const char *what)
{
    struct error e = {0};
    error_set(&e, ERROR_TIMEOUT, "redis at %s: %s could not be sent before its deadline",
              s->pool->target->label, what);
    error_set_field(
        &e, ERROR_HINT,
        "earlier steps took all the time: getting a connection, other commands of the same call, or "
        "asking for the map of the cluster");
    e.outcome = OUTCOME_NOT_SENT;
    e.retryable = true;
    return bind_error_raise(L, s->rt, &e);
}
