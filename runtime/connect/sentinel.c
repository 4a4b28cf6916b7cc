#include "connect/sentinel.h"

#include "base/deadline.h"
#include "base/number.h"
#include "connect/login.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A sentinel that does not answer for this long is skipped. */
#define SENTINEL_PATIENCE (2 * NS_PER_S)

struct address {
    char host[256];
    uint16_t port;
};

enum answer { ANSWER_ADDRESS, ANSWER_UNKNOWN, ANSWER_FAILED };

static bool read_text(struct resp_cursor *c, char *out, size_t size)
{
    struct resp_item item;
    if (!resp_next(c, &item) || item.type != RESP_STRING || item.size >= size)
        return false;
    memcpy(out, item.text, item.size);
    out[item.size] = '\0';
    return true;
}

static enum answer judge(const struct redis_target *sentinel, const struct redis_call *call,
                         struct address *at, struct error *e)
{
    struct resp_cursor c = resp_cursor(&call->reply);
    struct resp_item item;
    char port[8];
    if (!resp_next(&c, &item) || item.type == RESP_NIL)
        return ANSWER_UNKNOWN;
    if (item.type == RESP_ARRAY && item.size == 2 && read_text(&c, at->host, sizeof at->host) &&
        read_text(&c, port, sizeof port)) {
        int64_t n = number_int(port);
        at->port = (uint16_t)n;
        if (n > 0 && n <= UINT16_MAX)
            return ANSWER_ADDRESS;
    }
    int len = item.type == RESP_ERROR ? (int)(item.size < 200 ? item.size : 200) : 0;
    error_set(e, ERROR_CONNECT, "redis sentinel at %s: %.*s", sentinel->label, len ? len : 22,
              len ? item.text : "the reply is not an address");
    error_set_field(e, ERROR_CONTEXT, "sentinel");
    e->outcome = OUTCOME_NOT_SENT;
    e->retryable = true;
    return ANSWER_FAILED;
}

static enum answer ask(struct redis_target *sentinel, const char *service, struct address *at,
                       uint64_t deadline, const struct io_interrupt *intr, redis_connect_fn *direct,
                       struct error *e)
{
    struct redis_call call = {.next = NULL};
    enum answer result = ANSWER_FAILED;
    struct redisconn *c = direct(sentinel, deadline, intr, e);
    if (!c)
        return ANSWER_FAILED;
    resp_reply_init(&call.reply);
    const char *words[] = {"SENTINEL", "get-master-addr-by-name", service};
    if (redis_ask(c, words, 3, &call, deadline, intr, e))
        result = judge(sentinel, &call, at, e);
    resp_reply_clear(&call.reply);
    redisconn_free(c);
    return result;
}

/* True when the server is a master. When ROLE is denied, trusts the sentinel. */
static bool is_master(struct redisconn *c, uint64_t deadline, const struct io_interrupt *intr,
                      struct error *e)
{
    struct redis_call call = {.next = NULL};
    struct resp_item item;
    char role[16] = "master";
    resp_reply_init(&call.reply);
    bool ok = redis_ask(c, (const char *[]){"ROLE"}, 1, &call, deadline, intr, e);
    struct resp_cursor cur = resp_cursor(&call.reply);
    if (ok && resp_next(&cur, &item) && item.type == RESP_ARRAY)
        ok = read_text(&cur, role, sizeof role);
    resp_reply_clear(&call.reply);
    if (ok && strcmp(role, "master") == 0)
        return true;
    if (!e->message)
        error_set(e, ERROR_CONNECT, "redis at %s: the sentinels name it as the master, but its role is %s",
                  redisconn_target(c)->label, role);
    error_set_field(e, ERROR_CONTEXT, "role");
    error_set_field(e, ERROR_HINT, "a failover is under way: try again in a moment");
    e->outcome = OUTCOME_NOT_SENT;
    e->retryable = true;
    return false;
}

static struct redisconn *connect_master(struct redis_target *target, const struct address *at,
                                        uint64_t deadline, const struct io_interrupt *intr,
                                        redis_connect_fn *direct, struct error *e)
{
    struct redis_target *master = redis_target_at(target, at->host, at->port);
    if (!master) {
        error_set(e, ERROR_CONNECT, "redis at %s: not enough memory", target->label);
        return NULL;
    }
    struct redisconn *c = direct(master, deadline, intr, e);
    redis_target_unref(master);
    if (c && !is_master(c, deadline, intr, e)) {
        redisconn_free(c);
        c = NULL;
    }
    return c;
}

static void tell_unknown(const struct redis_target *target, struct error *e)
{
    error_set(e, ERROR_CONFIG, "redis: the sentinels know no master called \"%s\"",
              target->text[REDIS_SERVICE]);
    error_set_field(e, ERROR_CONTEXT, "sentinel");
    error_set_field(e, ERROR_HINT,
                    "redis+sentinel://host:26379/NAME/0: the NAME is the one in their \"sentinel monitor\"");
    e->outcome = OUTCOME_NOT_SENT;
}

struct redisconn *redis_sentinel_connect(struct redis_target *target, uint64_t deadline,
                                         const struct io_interrupt *intr, redis_connect_fn *direct,
                                         struct error *e)
{
    unsigned n = 0;
    bool unknown = false;
    while (target->sentinels[n])
        n++;
    unsigned first = target->good_sentinel;
    for (unsigned i = 0; i < n; i++) {
        unsigned at_index = (first + i) % n;
        struct address at;
        uint64_t patience = deadline_min(deadline, mono_now() + SENTINEL_PATIENCE);
        error_clear(e);
        enum answer answer =
            ask(target->sentinels[at_index], target->text[REDIS_SERVICE], &at, patience, intr, direct, e);
        unknown = unknown || answer == ANSWER_UNKNOWN;
        if (answer != ANSWER_ADDRESS)
            continue;
        /* A master that does not answer leaves time to ask the other sentinels, which may know of a new one.
         */
        uint64_t now = mono_now();
        uint64_t share = deadline;
        if (deadline != DEADLINE_NEVER && deadline > now)
            share = now + (deadline - now) / (n - i);
        struct redisconn *c = connect_master(target, &at, share, intr, direct, e);
        if (c) {
            target->good_sentinel = at_index;
            return c;
        }
        if (deadline <= mono_now())
            break;
    }
    if (unknown && !e->message)
        tell_unknown(target, e);
    return NULL;
}
