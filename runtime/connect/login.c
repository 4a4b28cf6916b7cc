#include "connect/login.h"

#include "base/deadline.h"
#include "redis/reader.h"

#include <errno.h>
#include <string.h>

enum { LOADING_PAUSE_MS = 50 };

enum step { STEP_AUTH, STEP_SELECT, STEP_READONLY, STEP_NAME, STEP_PING, STEP_HELLO, STEPS };

struct login {
    struct redisconn *conn;
    struct redis_call call[STEPS];
    bool asked[STEPS];
};

static void on_done(struct redis_call *c, void *data)
{
    /* `drive` reads the replies once all have arrived. */
    (void)c;
    (void)data;
}

static const struct redisconn_events events = {on_done, NULL};

static bool fail(struct redisconn *c, const char *layer, const char *what, const char *hint, struct error *e)
{
    error_set(e, ERROR_CONNECT, "redis at %s: %s: %s", redisconn_target(c)->label, layer, what);
    error_set_field(e, ERROR_CONTEXT, layer);
    error_set_field(e, ERROR_HINT, hint);
    e->outcome = OUTCOME_NOT_SENT;
    return false;
}

static bool silent(struct redisconn *c, struct error *e)
{
    bool tls = redisconn_state(c) == REDISCONN_HANDSHAKE;
    fail(c, tls ? "TLS" : "server", "connected, but the server did not answer before the deadline",
         tls ? "does the server speak TLS on this port (redis:// instead of rediss://)?"
             : "a server accepts connections there but does not answer: is it Redis, and does it hang?",
         e);
    e->retryable = true;
    return false;
}

/* Steps the connection until every command is answered. */
static bool drive(struct redisconn *c, uint64_t deadline, const struct io_interrupt *intr, struct error *e)
{
    unsigned ready = 0;
    for (;;) {
        unsigned got = redisconn_step(c, ready);
        if (got & REDISCONN_BROKEN) {
            error_copy(e, redisconn_error(c));
            bool tls = strstr(e->message ? e->message : "", "TLS") != NULL;
            error_set_field(e, ERROR_CONTEXT, tls ? "TLS" : "server");
            e->outcome = OUTCOME_NOT_SENT;
            /* A server that closes during the login may be restarting. */
            e->retryable = !tls && e->kind == ERROR_CONNECT;
            return false;
        }
        if (got & REDISCONN_DONE)
            return true;
        if (mono_now() >= deadline) /* the socket of a server that never stops sending is always ready */
            return silent(c, e);
        switch (io_poll(redisconn_fd(c), got, deadline, intr, &ready)) {
        case IO_READY:
            break;
        case IO_TIMEOUT:
            return silent(c, e);
        case IO_INTERRUPTED:
            return fail(c, "server", "interrupted", NULL, e);
        case IO_ERROR:
            return fail(c, "server", strerror(errno), NULL, e);
        }
    }
}

static void queue(struct redisconn *c, struct redis_call *call, const char *const *words, size_t n)
{
    struct redis_queue *q = redisconn_queue(c);
    size_t from = q->out.len;
    resp_add_header(&q->out, n);
    for (size_t i = 0; i < n; i++)
        resp_add_arg(&q->out, words[i], strlen(words[i]));
    resp_reply_clear(&call->reply);
    redis_queue_push(q, call, from, 1);
}

static void ask(struct login *l, enum step s, const char *const *words, size_t n)
{
    queue(l->conn, &l->call[s], words, n);
    l->asked[s] = true;
}

bool redis_ask(struct redisconn *c, const char *const *words, size_t n, struct redis_call *call,
               uint64_t deadline, const struct io_interrupt *intr, struct error *e)
{
    redisconn_listen(c, &events, NULL);
    queue(c, call, words, n);
    bool ok = drive(c, deadline, intr, e);
    redisconn_listen(c, NULL, NULL);
    return ok;
}

static void ask_all(struct login *l, const struct redis_target *t)
{
    const char *user = t->text[REDIS_USERNAME];
    const char *password = t->text[REDIS_PASSWORD];
    const char *name = t->text[REDIS_CLIENT_NAME];
    if (password && user)
        ask(l, STEP_AUTH, (const char *[]){"AUTH", user, password}, 3);
    else if (password)
        ask(l, STEP_AUTH, (const char *[]){"AUTH", password}, 2);
    if (t->db != 0) {
        char text[RESP_INT_DIGITS + 1];
        text[resp_format_int(t->db, text)] = '\0';
        ask(l, STEP_SELECT, (const char *[]){"SELECT", text}, 2);
    }
    if (t->read_replica)
        ask(l, STEP_READONLY, (const char *[]){"READONLY"}, 1);
    if (name)
        ask(l, STEP_NAME, (const char *[]){"CLIENT", "SETNAME", name}, 3);
    ask(l, STEP_PING, (const char *[]){"PING"}, 1);
}

/* The text of an error reply, cut to `size`; "" when the reply is no error. */
static const char *refusal(const struct redis_call *c, char *out, size_t size)
{
    struct resp_cursor cur = resp_cursor(&c->reply);
    struct resp_item item;
    out[0] = '\0';
    if (resp_next(&cur, &item) && item.type == RESP_ERROR) {
        size_t n = item.size < size - 1 ? (size_t)item.size : size - 1;
        memcpy(out, item.text, n);
        out[n] = '\0';
    }
    return out;
}

static bool begins(const char *text, const char *word)
{
    return strncmp(text, word, strlen(word)) == 0;
}

static const char *hint_for(const char *text)
{
    if (begins(text, "NOAUTH"))
        return "the server wants a password: REDIS_PASSWORD, or redis://:password@host";
    if (begins(text, "WRONGPASS") || strstr(text, "invalid password"))
        return "check the user and the password in REDIS_URL, or REDIS_USERNAME and REDIS_PASSWORD";
    if (strstr(text, "without any password configured"))
        return "the server has no password for the default user: leave the password out, or name a user";
    if (begins(text, "DENIED"))
        return "the server is in protected mode: set a password on it, or connect from its own machine";
    if (begins(text, "NOPERM"))
        return "the user's ACL does not allow it";
    if (strstr(text, "max number of clients"))
        return "raise maxclients on the server, or lower REDIS_MAX_CONNECTIONS";
    if (strstr(text, "DB index is out of range"))
        return "the server has fewer databases (its setting `databases`, 16 by default)";
    return NULL;
}

static bool transient(const char *text)
{
    return begins(text, "LOADING") || begins(text, "BUSY") || begins(text, "MASTERDOWN");
}

/* A long script is running, and the server said so to the PING only: the connection is ready for what may be
 * said meanwhile, as SCRIPT KILL, and the server says the same to anything else. */
static bool only_busy(const struct login *l, const char *text)
{
    char other[512];
    if (!begins(text, "BUSY"))
        return false;
    for (int s = 0; s < STEP_PING; s++)
        if (l->asked[s] && *refusal(&l->call[s], other, sizeof other))
            return false;
    return true;
}

/* Repeats PING until a server that loads its data, or runs a long script, answers it. */
static bool await_ready(struct login *l, char *text, size_t size, uint64_t deadline,
                        const struct io_interrupt *intr, struct error *e)
{
    while (transient(refusal(&l->call[STEP_PING], text, size))) {
        unsigned ready;
        uint64_t now = mono_now();
        if (deadline <= now || only_busy(l, text))
            return true; /* `judge` reports the server's last reply */
        uint64_t pause = deadline_min(deadline, now + LOADING_PAUSE_MS * NS_PER_MS);
        if (io_poll(-1, 0, pause, intr, &ready) == IO_INTERRUPTED)
            return fail(l->conn, "server", "interrupted", NULL, e);
        ask(l, STEP_PING, (const char *[]){"PING"}, 1);
        if (!drive(l->conn, deadline, intr, e)) {
            if (!e->retryable)
                return false;
            return fail(l->conn, "server", text, "it did not become ready before the deadline", e);
        }
    }
    return true;
}

static bool judge(struct login *l, char *text, size_t size, uint64_t deadline,
                  const struct io_interrupt *intr, struct error *e)
{
    static const char *const layers[STEPS] = {"authentication", "database", "server",
                                              "server",         "server",   "server"};
    if (!drive(l->conn, deadline, intr, e) || !await_ready(l, text, size, deadline, intr, e))
        return false;
    for (int s = 0; s < STEPS; s++) {
        if (!l->asked[s] || !*refusal(&l->call[s], text, size))
            continue;
        /* A user whose ACL denies PING or CLIENT is logged in nevertheless. */
        if (begins(text, "NOPERM") && (s == STEP_PING || s == STEP_NAME))
            continue;
        if (s == STEP_PING && only_busy(l, text))
            continue;
        const char *layer =
            begins(text, "NOAUTH") || begins(text, "WRONGPASS") ? "authentication" : layers[s];
        fail(l->conn, layer, text, hint_for(text), e);
        e->retryable = transient(text) || strstr(text, "max number of clients") != NULL;
        return false;
    }
    return true;
}

/* Asks for RESP3 where the parser knows it: last, of a server that has let the client in. One that refuses
 * goes on in RESP2, so that its answer need not be looked at. */
static bool say_hello(struct login *l, uint64_t deadline, const struct io_interrupt *intr, struct error *e)
{
    if (!redis_reader_knows_resp3())
        return true;
    ask(l, STEP_HELLO, (const char *[]){"HELLO", "3"}, 2);
    return drive(l->conn, deadline, intr, e);
}

bool redis_login(struct redisconn *c, uint64_t deadline, const struct io_interrupt *intr, struct error *e)
{
    struct login l = {.conn = c};
    char text[512];
    for (int s = 0; s < STEPS; s++)
        resp_reply_init(&l.call[s].reply);
    redisconn_listen(c, &events, NULL);
    ask_all(&l, redisconn_target(c));
    bool ok = judge(&l, text, sizeof text, deadline, intr, e) && say_hello(&l, deadline, intr, e);
    if (!ok && strstr(e->message ? e->message : "", "max number of clients")) {
        error_set_field(e, ERROR_HINT, hint_for("max number of clients"));
        e->retryable = true;
    }
    for (int s = 0; s < STEPS; s++)
        resp_reply_clear(&l.call[s].reply);
    redisconn_listen(c, NULL, NULL);
    return ok;
}
