#include "connect/login.h"

#include "base/deadline.h"
#include "config.h"
#include "redis/codes.h"
#include "redis/reader.h"

#include <errno.h>
#include <string.h>

enum { LOADING_PAUSE_MS = 50 };

enum { REFUSAL_SIZE = 512 };

enum step {
    STEP_AUTH,
    STEP_SELECT,
    STEP_READONLY,
    STEP_NAME,
    STEP_NO_EVICT,
    STEP_NO_TOUCH,
    STEP_LIB_NAME,
    STEP_LIB_VERSION,
    STEP_PING,
    STEP_HELLO,
    STEPS
};

struct login {
    struct redisconn *conn;
    struct redis_target *target;
    struct redis_call call[STEPS];
    bool asked[STEPS];
    bool skip[STEPS]; /* when asking again: already answered */
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
            bool tls = redisconn_target(c)->tls && strstr(e->message ? e->message : "", "TLS");
            error_set_field(e, ERROR_CONTEXT, tls ? "TLS" : "server");
            e->outcome = OUTCOME_NOT_SENT;
            /* A server that closes during the login may be restarting, unless it says why. */
            bool closed = redisconn_was_closed(c);
            if (!e->field[ERROR_CODE])
                e->retryable = e->kind == ERROR_CONNECT && (!tls || closed);
            if (closed && !e->field[ERROR_CODE] && redisconn_received(c) == 0)
                error_set_field(
                    e, ERROR_HINT,
                    tls ? "does it speak TLS on this port (if not, use redis://)? A server that has too "
                          "many clients (maxclients) or is stopping closes connections in this way, too"
                        : "it sent no reply: does it want TLS on this port (then use rediss://), or is it "
                          "stopping? Its log says why");
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
    if (l->skip[s])
        return;
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

/* An empty text counts as not given, because it may come from an empty environment variable. */
static const char *given(const struct redis_target *t, enum redis_text which)
{
    return t->text[which] && *t->text[which] ? t->text[which] : NULL;
}

/* The settings of the connection other than user and database. */
static void ask_settings(struct login *l, const struct redis_target *t)
{
    const char *name = given(t, REDIS_CLIENT_NAME);
    if (t->db != 0) {
        char text[RESP_INT_DIGITS + 1];
        text[resp_format_int(t->db, text)] = '\0';
        ask(l, STEP_SELECT, (const char *[]){"SELECT", text}, 2);
    }
    if (t->read_replica)
        ask(l, STEP_READONLY, (const char *[]){"READONLY"}, 1);
    if (name)
        ask(l, STEP_NAME, (const char *[]){"CLIENT", "SETNAME", name}, 3);
    if (t->no_evict)
        ask(l, STEP_NO_EVICT, (const char *[]){"CLIENT", "NO-EVICT", "on"}, 3);
    if (t->no_touch)
        ask(l, STEP_NO_TOUCH, (const char *[]){"CLIENT", "NO-TOUCH", "on"}, 3);
    const char *library = t->text[REDIS_LIB_NAME] ? given(t, REDIS_LIB_NAME) : "dbrun";
    const char *version = t->text[REDIS_LIB_NAME] ? given(t, REDIS_LIB_VERSION) : DBRUN_VERSION;
    if (library)
        ask(l, STEP_LIB_NAME, (const char *[]){"CLIENT", "SETINFO", "LIB-NAME", library}, 4);
    if (library && version)
        ask(l, STEP_LIB_VERSION, (const char *[]){"CLIENT", "SETINFO", "LIB-VER", version}, 4);
}

static void ask_all(struct login *l, const struct redis_target *t)
{
    const char *user = given(t, REDIS_USERNAME);
    const char *password = given(t, REDIS_PASSWORD);
    if (user) /* also without a password: otherwise the connection would run as the default user */
        ask(l, STEP_AUTH, (const char *[]){"AUTH", user, password ? password : ""}, 3);
    else if (password)
        ask(l, STEP_AUTH, (const char *[]){"AUTH", password}, 2);
    if (!t->bare)
        ask_settings(l, t);
    ask(l, STEP_PING, (const char *[]){"PING"}, 1);
}

/* ---- refusals ---- */

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

static bool begins(const char *text, const char *code)
{
    return redis_code_is(text, strlen(text), code);
}

/* The hint for a refused user: that of the code only says where the server's password is set. */
static const char *hint_for_user(const struct redis_target *t, const char *text)
{
    if (t->is_sentinel)
        return "this is a sentinel: sentinels have a user and a password of their own, sentinel_password= "
               "(and "
               "sentinel_username=) in the URL";
    if (given(t, REDIS_USERNAME) && !given(t, REDIS_PASSWORD) && begins(text, "WRONGPASS"))
        return "a user but no password was given (REDIS_USERNAME, REDIS_PASSWORD): "
               "redis://user:password@host has both, redis://:password@host is a password alone; the user "
               "can also be switched off on the server";
    return NULL;
}

/* A hint beyond that of the error code. */
static const char *hint_for(const struct redis_target *t, const char *text)
{
    if (begins(text, "NOAUTH") || begins(text, "WRONGPASS") || strstr(text, "invalid password"))
        if (hint_for_user(t, text))
            return hint_for_user(t, text);
    if (strstr(text, "invalid password"))
        return "check the user and the password in REDIS_URL, or REDIS_USERNAME and REDIS_PASSWORD";
    if (strstr(text, "without any password configured"))
        return "the server has no password for the default user: leave the password out, or name a user";
    if (strstr(text, "wrong number of arguments for 'auth'"))
        return "the server is older than Redis 6 and knows no users: leave the user out";
    if (strstr(text, "DB index is out of range"))
        return "the server has fewer databases (its setting `databases`, 16 by default)";
    if (strstr(text, "NO-TOUCH") && begins(text, "ERR"))
        return "no_touch needs Redis 7.2 or Valkey";
    if (strstr(text, "NO-EVICT") && begins(text, "ERR"))
        return "no_evict needs Redis 7.0 or Valkey";
    return NULL;
}

/* True when the server refuses all new clients: it then does so instead of its first reply, whatever the
 * command. */
static bool concerns_all(const char *text)
{
    return begins(text, "DENIED") || strstr(text, "max number of clients");
}

/* The code of a temporary error, as a literal; NULL: the error is not temporary. (BUSY is not, because a
 * script may run for ever.) */
static const char *passing(const char *text)
{
    static const char *const codes[] = {"LOADING", "MASTERDOWN"};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (begins(text, codes[i]))
            return codes[i];
    return NULL;
}

/* True when the connection can be used although the server refused this step. */
static bool is_forgiven(enum step s, const char *text)
{
    /* Servers before Redis 7.2 do not know CLIENT SETINFO. It only names the client, so a failure matters
     * only when the server refuses all clients. */
    if (s == STEP_LIB_NAME || s == STEP_LIB_VERSION)
        return !concerns_all(text) && !passing(text);
    /* A user whose ACL denies PING or CLIENT is logged in nevertheless. */
    if (begins(text, "NOPERM"))
        return s == STEP_PING || s == STEP_NAME;
    /* The PING is refused by a server that cannot save, as if it were a write, and by one that runs a long
     * script. The connection is ready for allowed commands (reads, SCRIPT KILL); other commands get the same
     * error from the server. */
    return s == STEP_PING && (begins(text, "MISCONF") || begins(text, "BUSY"));
}

/* The first step that was refused for good; STEPS: none. */
static enum step refused(const struct login *l, char text[REFUSAL_SIZE])
{
    int s = 0;
    while (s < STEPS &&
           (!l->asked[s] || !*refusal(&l->call[s], text, REFUSAL_SIZE) || is_forgiven((enum step)s, text)))
        s++;
    return (enum step)s;
}

static bool refuse(const struct login *l, enum step s, const char *text, struct error *e)
{
    bool auth = begins(text, "NOAUTH") || begins(text, "WRONGPASS");
    const char *layer = concerns_all(text)       ? "server"
                        : auth || s == STEP_AUTH ? "authentication"
                        : s == STEP_SELECT       ? "database"
                                                 : "server";
    fail(l->conn, layer, text, NULL, e);
    redis_code_describe(e, text, strlen(text));
    e->outcome = OUTCOME_NOT_SENT;
    const char *hint = hint_for(redisconn_target(l->conn), text);
    if (hint)
        error_set_field(e, ERROR_HINT, hint);
    return false;
}

/* ---- waiting ---- */

/* Sends again what was refused while the server loaded its data. */
static void ask_again(struct login *l)
{
    char text[REFUSAL_SIZE];
    for (int s = 0; s < STEPS; s++)
        l->skip[s] = !l->asked[s] || !passing(refusal(&l->call[s], text, sizeof text));
    ask_all(l, redisconn_target(l->conn));
}

/* Waits for all replies, and for a server that loads its data. */
static bool await(struct login *l, uint64_t deadline, const struct io_interrupt *intr, struct error *e)
{
    char text[REFUSAL_SIZE] = "";
    for (;;) {
        char last[REFUSAL_SIZE];
        memcpy(last, text, sizeof last);
        bool ok = drive(l->conn, deadline, intr, e);
        enum step s = refused(l, text);
        if (!ok && s != STEPS) /* the server said why before it closed */
            return refuse(l, s, text, e);
        if (!ok && *last && e->retryable)
            return refuse(l, STEP_PING, last, e);
        redis_target_tell(l->target, s == STEPS ? NULL : passing(text));
        if (!ok || s == STEPS)
            return ok;
        uint64_t now = mono_now();
        if (!passing(text) || deadline <= now)
            return refuse(l, s, text, e);
        uint64_t pause = deadline_min(deadline, now + LOADING_PAUSE_MS * NS_PER_MS);
        unsigned ready;
        if (io_poll(-1, 0, pause, intr, &ready) == IO_INTERRUPTED)
            return fail(l->conn, "server", "interrupted", NULL, e);
        ask_again(l);
    }
}

/* Asks for RESP3 if the parser knows it, after the login has succeeded. A server that refuses continues in
 * RESP2, so its answer need not be checked. */
static bool say_hello(struct login *l, uint64_t deadline, const struct io_interrupt *intr, struct error *e)
{
    if (!redis_reader_knows_resp3())
        return true;
    ask(l, STEP_HELLO, (const char *[]){"HELLO", "3"}, 2);
    return drive(l->conn, deadline, intr, e);
}

bool redis_login(struct redisconn *c, struct redis_target *t, uint64_t deadline,
                 const struct io_interrupt *intr, struct error *e)
{
    struct login l = {.conn = c, .target = t};
    for (int s = 0; s < STEPS; s++)
        resp_reply_init(&l.call[s].reply);
    redisconn_listen(c, &events, NULL);
    ask_all(&l, redisconn_target(c));
    bool ok = await(&l, deadline, intr, e) && say_hello(&l, deadline, intr, e);
    for (int s = 0; s < STEPS; s++)
        resp_reply_clear(&l.call[s].reply);
    redisconn_listen(c, NULL, NULL);
    return ok;
}
