/* One connection as a machine, over a socketpair: the other end acts as the server. */
#include "check.h"

#include "redis_resp3.h"

#include "redis/conn.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

static struct redis_target *target;

struct world {
    int server;
    struct redisconn *conn;
    unsigned done;
    unsigned pushed;
    struct redis_call *last;
};

static void on_done(struct redis_call *c, void *data)
{
    struct world *w = data;
    w->done++;
    w->last = c;
}

static void on_push(struct resp_reply *r, void *data)
{
    struct world *w = data;
    struct resp_cursor c = resp_cursor(r);
    struct resp_item item;
    w->pushed++;
    CHECK(resp_next(&c, &item));
}

static const struct redisconn_events events = {on_done, NULL};
static const struct redisconn_events push_events = {on_done, on_push};

static struct world open_world(void)
{
    int fds[2];
    struct world w = {0};
    struct error e = {0};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0)
        abort();
    w.server = fds[1];
    w.conn = redisconn_new(fds[0], target, &e);
    if (!w.conn)
        abort();
    return w;
}

static void close_world(struct world *w)
{
    redisconn_free(w->conn);
    if (w->server >= 0)
        close(w->server);
}

static void ask(struct world *w, struct redis_call *c, uint32_t expect)
{
    struct redis_queue *q = redisconn_queue(w->conn);
    size_t from = q->out.len;
    *c = (struct redis_call){0};
    resp_reply_init(&c->reply);
    for (uint32_t i = 0; i < expect; i++) {
        resp_add_header(&q->out, 1);
        resp_add_arg(&q->out, "PING", 4);
    }
    redis_queue_push(q, c, from, expect);
}

static void say(struct world *w, const char *data, size_t len)
{
    if (write(w->server, data, len) != (ssize_t)len)
        abort();
}

static void say_text(struct world *w, const char *text)
{
    say(w, text, strlen(text));
}

/* The reply as text: "[s:hello,i:5,-,e:ERR x,[]]". */
static void print_item(struct resp_cursor *c, struct buf *out)
{
    struct resp_item item;
    if (!resp_next(c, &item)) {
        buf_adds(out, "?");
        return;
    }
    switch (item.type) {
    case RESP_NIL:
        buf_adds(out, "-");
        break;
    case RESP_INTEGER:
        buf_addf(out, "i:%lld", (long long)item.integer);
        break;
    case RESP_STATUS:
    case RESP_STRING:
    case RESP_ERROR:
        buf_adds(out, item.type == RESP_STATUS ? "+:" : item.type == RESP_ERROR ? "e:" : "s:");
        buf_add(out, item.text, item.size);
        break;
    case RESP_ARRAY:
        buf_adds(out, "[");
        for (uint64_t i = 0; i < item.size; i++) {
            if (i)
                buf_adds(out, ",");
            print_item(c, out);
        }
        buf_adds(out, "]");
        break;
    }
}

static void check_reply(struct redis_call *c, const char *want)
{
    struct buf out = {0};
    struct resp_cursor cur = resp_cursor(&c->reply);
    print_item(&cur, &out);
    CHECK_STR(out.data, want);
    buf_free(&out);
}

static const struct {
    const char *wire;
    const char *want;
} replies[] = {
    {"+OK\r\n", "+:OK"},
    {"-ERR no\r\n", "e:ERR no"},
    {":-9223372036854775808\r\n", "i:-9223372036854775808"},
    {"$-1\r\n", "-"},
    {"*-1\r\n", "-"},
    {"$0\r\n\r\n", "s:"},
    {"$6\r\na\r\nb\r\n\r\n", "s:a\r\nb\r\n"},
    {"*0\r\n", "[]"},
    {"*3\r\n:1\r\n$3\r\nabc\r\n*2\r\n+x\r\n$-1\r\n", "[i:1,s:abc,[+:x,-]]"},
    {"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:8\r\n", "[[[[[[[[i:8]]]]]]]]"},
};
enum { REPLIES = sizeof replies / sizeof *replies };

static void test_whole(void)
{
    struct world w = open_world();
    redisconn_listen(w.conn, &events, &w);
    struct redis_call calls[REPLIES];
    for (int i = 0; i < REPLIES; i++)
        ask(&w, &calls[i], 1);
    CHECK_EQ(redisconn_step(w.conn, 0), REDIS_IO_READ);
    CHECK_EQ(redisconn_unanswered(w.conn), REPLIES);
    for (int i = 0; i < REPLIES; i++)
        say(&w, replies[i].wire, strlen(replies[i].wire));
    CHECK_EQ(redisconn_step(w.conn, REDIS_IO_READ), REDIS_IO_READ | REDISCONN_DONE);
    CHECK_EQ(w.done, REPLIES);
    for (int i = 0; i < REPLIES; i++) {
        check_reply(&calls[i], replies[i].want);
        resp_reply_clear(&calls[i].reply);
    }
    close_world(&w);
}

/* Each reply arrives in two parts, cut at every place, and byte by byte. */
static void test_every_split(void)
{
    for (int i = 0; i < REPLIES; i++) {
        size_t len = strlen(replies[i].wire);
        for (size_t cut = 0; cut <= len; cut++) {
            struct world w = open_world();
            struct redis_call c;
            redisconn_listen(w.conn, &events, &w);
            ask(&w, &c, 1);
            redisconn_step(w.conn, 0);
            if (cut == len) {
                for (size_t k = 0; k < len; k++) {
                    CHECK_EQ(w.done, 0);
                    say(&w, replies[i].wire + k, 1);
                    redisconn_step(w.conn, REDIS_IO_READ);
                }
            } else {
                say(&w, replies[i].wire, cut);
                if (cut)
                    redisconn_step(w.conn, REDIS_IO_READ);
                CHECK_EQ(w.done, 0);
                say(&w, replies[i].wire + cut, len - cut);
                CHECK_EQ(redisconn_step(w.conn, REDIS_IO_READ), REDIS_IO_READ | REDISCONN_DONE);
            }
            CHECK_EQ(w.done, 1);
            check_reply(&c, replies[i].want);
            resp_reply_clear(&c.reply);
            close_world(&w);
        }
    }
}

static void test_several_replies(void)
{
    struct world w = open_world();
    struct redis_call c;
    redisconn_listen(w.conn, &events, &w);
    ask(&w, &c, 3);
    redisconn_step(w.conn, 0);
    say_text(&w, "+a\r\n:2\r\n");
    redisconn_step(w.conn, REDIS_IO_READ);
    CHECK_EQ(w.done, 0);
    say_text(&w, "*1\r\n:3\r\n");
    redisconn_step(w.conn, REDIS_IO_READ);
    CHECK_EQ(w.done, 1);
    struct resp_cursor cur = resp_cursor(&c.reply);
    struct buf out = {0};
    for (int i = 0; i < 3; i++)
        print_item(&cur, &out);
    CHECK_STR(out.data, "+:ai:2[i:3]");
    buf_free(&out);
    resp_reply_clear(&c.reply);
    close_world(&w);
}

struct hostile {
    const char *wire;
    const char *says;
};

/* The server's bytes are refused with an error of kind protocol, and take little memory. */
static void check_hostile(const struct hostile *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct world w = open_world();
        struct redis_call c;
        redisconn_listen(w.conn, &events, &w);
        ask(&w, &c, 1);
        redisconn_step(w.conn, 0);
        say(&w, cases[i].wire, strlen(cases[i].wire));
        CHECK_EQ(redisconn_step(w.conn, REDIS_IO_READ), REDISCONN_BROKEN);
        CHECK_EQ(redisconn_state(w.conn), REDISCONN_FAILED);
        const struct error *e = redisconn_error(w.conn);
        CHECK_EQ(e->kind, ERROR_PROTOCOL);
        if (!CHECK(e->message && strstr(e->message, cases[i].says) != NULL))
            printf("    case %zu said: %s\n", i, e->message ? e->message : "nothing");
        CHECK_EQ(redisconn_step(w.conn, REDIS_IO_READ), REDISCONN_BROKEN);
        CHECK(redisconn_pop_sent(w.conn) == &c);
        CHECK(redisconn_pop_sent(w.conn) == NULL);
        CHECK(c.reply.cap <= 4096);
        resp_reply_clear(&c.reply);
        close_world(&w);
    }
}

static void test_hostile(void)
{
    static const struct hostile cases[] = {
        {"*-2\r\n", "Multi-bulk length out of range"},
        {"*4294967296\r\n", "Multi-bulk length out of range"},
        {"*99999999999999999999999\r\n", "Bad multi-bulk length"},
        {"*\r\n", "Bad multi-bulk length"},
        {"*1x\r\n", "Bad multi-bulk length"},
        {"$-2\r\n", "Bulk string length out of range"},
        {"$99999999999999999999999\r\n", "Bad bulk string length"},
        {"$536870913\r\nabc", "512 MiB"},
        {"$00000000000000000000000000000000000000000000", "a length without an end"},
        {"$3\r\nabcde", "longer than announced"},
        {":12a\r\n", "Bad integer value"},
        {":9223372036854775808\r\n", "Bad integer value"},
        {"*2147483647\r\n", "more elements were announced than fit"},
        {"*2\r\n:1\r\n*67108863\r\n:1\r\n", "more elements were announced than fit"},
        {":00000000000000000000000000000000000000000000", "a number without an end"},
        {"*00000000000000000000000000000000000000000000", "a length without an end"},
        {"HTTP/1.1 400 Bad Request\r\n", "as reply type byte"},
        {"\x15\x03\x01", "as reply type byte"},
    };
    check_hostile(cases, sizeof cases / sizeof *cases);
}

/* The types of RESP3, to a parser that knows them, and to one that does not. */
static void test_hostile_resp3(void)
{
    static const struct hostile known[] = {
        {"%2147483647\r\n", "more elements were announced than fit"},
        {"~2147483647\r\n", "more elements were announced than fit"},
        {">2147483647\r\n", "more elements were announced than fit"},
        {"*1\r\n%-2\r\n", "length out of range"},
        {">-1\r\n", "without elements"},
        {"=536870913\r\ntxt:", "512 MiB"},
        {"=3\r\ntxt\r\n", "erbatim"},
        {"=5\r\ntxt:abc\r\n", "longer than announced"},
        {"#x\r\n", "Bad bool"},
        {",x\r\n", "Bad double"},
        {"_x\r\n", "Bad nil"},
    };
    static const struct hostile attributes[] = {
        {"|2147483647\r\n", "more elements were announced than fit"},
        {"*1\r\n|-1\r\n", "without elements"},
    };
    static const struct hostile unknown[] = {
        {"%1\r\n+a\r\n+b\r\n", "as reply type byte"},
        {"_\r\n", "as reply type byte"},
        {"*2147483648\r\n", "Multi-bulk length out of range"},
    };
    if (RESP3)
        check_hostile(known, sizeof known / sizeof *known);
    else
        check_hostile(unknown, sizeof unknown / sizeof *unknown);
    if (ATTRIBUTES)
        check_hostile(attributes, sizeof attributes / sizeof *attributes);
}

static void test_huge_count(void)
{
    struct world w = open_world();
    struct redis_call c;
    redisconn_listen(w.conn, &events, &w);
    ask(&w, &c, 1);
    redisconn_step(w.conn, 0);
    say_text(&w, "*60000000\r\n:1\r\n");
    CHECK_EQ(redisconn_step(w.conn, REDIS_IO_READ), REDIS_IO_READ);
    CHECK(c.reply.cap <= 4096);
    close(w.server);
    w.server = -1;
    CHECK_EQ(redisconn_step(w.conn, REDIS_IO_READ), REDISCONN_BROKEN);
    resp_reply_clear(&c.reply);
    close_world(&w);
}

static void test_endless_line(void)
{
    struct world w = open_world();
    struct redis_call c;
    redisconn_listen(w.conn, &events, &w);
    ask(&w, &c, 1);
    redisconn_step(w.conn, 0);
    char line[4096];
    memset(line, 'x', sizeof line);
    line[0] = '+';
    unsigned got = 0;
    for (int i = 0; i < 1024 && !(got & REDISCONN_BROKEN); i++) {
        say(&w, line, sizeof line);
        line[0] = 'x';
        got = redisconn_step(w.conn, REDIS_IO_READ);
    }
    CHECK_EQ(got, REDISCONN_BROKEN);
    CHECK(redisconn_received(w.conn) < 2 * 1024 * 1024);
    resp_reply_clear(&c.reply);
    close_world(&w);
}

static void test_truncated(void)
{
    static const char reply[] = "*2\r\n$5\r\nhello\r\n:1\r\n";
    for (size_t cut = 0; cut < sizeof reply - 1; cut++) {
        struct world w = open_world();
        struct redis_call c;
        redisconn_listen(w.conn, &events, &w);
        ask(&w, &c, 1);
        redisconn_step(w.conn, 0);
        say(&w, reply, cut);
        close(w.server);
        w.server = -1;
        unsigned got = redisconn_step(w.conn, REDIS_IO_READ);
        if (got != REDISCONN_BROKEN)
            got = redisconn_step(w.conn, REDIS_IO_READ);
        CHECK_EQ(got, REDISCONN_BROKEN);
        CHECK_EQ(redisconn_error(w.conn)->kind, ERROR_CONNECT);
        CHECK_EQ(w.done, 0);
        resp_reply_clear(&c.reply);
        close_world(&w);
    }
}

static void test_unasked(void)
{
    struct world w = open_world();
    redisconn_listen(w.conn, &events, &w);
    redisconn_step(w.conn, 0);
    CHECK(redisconn_is_idle(w.conn));
    say_text(&w, "+surprise\r\n");
    CHECK(!redisconn_is_idle(w.conn));
    CHECK_EQ(redisconn_step(w.conn, REDIS_IO_READ), REDISCONN_BROKEN);
    CHECK_EQ(redisconn_error(w.conn)->kind, ERROR_PROTOCOL);
    close_world(&w);

    w = open_world();
    redisconn_step(w.conn, 0);
    say_text(&w, "-ERR max number of clients reached\r\n");
    CHECK_EQ(redisconn_step(w.conn, REDIS_IO_READ), REDISCONN_BROKEN);
    CHECK_EQ(redisconn_error(w.conn)->kind, ERROR_CONNECT);
    CHECK(strstr(redisconn_error(w.conn)->message, "max number of clients") != NULL);
    close_world(&w);
}

static void test_pushes(void)
{
    struct world w = open_world();
    redisconn_listen(w.conn, &push_events, &w);
    redisconn_step(w.conn, 0);
    say_text(&w, "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n+x\r\n");
    CHECK_EQ(redisconn_step(w.conn, REDIS_IO_READ), REDIS_IO_READ | REDISCONN_DONE);
    CHECK_EQ(w.pushed, 2);
    close_world(&w);
}

static void test_closed_is_not_idle(void)
{
    struct world w = open_world();
    redisconn_step(w.conn, 0);
    CHECK(redisconn_is_idle(w.conn));
    close(w.server);
    w.server = -1;
    CHECK(!redisconn_is_idle(w.conn));
    close_world(&w);
}

static void test_tombstone(void)
{
    struct world w = open_world();
    struct redis_call a, b;
    redisconn_listen(w.conn, &events, &w);
    ask(&w, &a, 1);
    ask(&w, &b, 1);
    redisconn_step(w.conn, 0);
    CHECK(!redis_queue_drop(redisconn_queue(w.conn), &a));
    say_text(&w, "+for a\r\n+for b\r\n");
    redisconn_step(w.conn, REDIS_IO_READ);
    CHECK_EQ(w.done, 2);
    check_reply(&b, "+:for b");
    CHECK(!b.dropped);
    resp_reply_clear(&a.reply);
    resp_reply_clear(&b.reply);
    close_world(&w);
}

/* A peer that does not read: the machine asks for writability and loses nothing. */
static void test_full_socket(void)
{
    struct world w = open_world();
    struct redis_call c;
    struct redis_queue *q = redisconn_queue(w.conn);
    redisconn_listen(w.conn, &events, &w);
    size_t size = 4 * 1024 * 1024;
    char *large = calloc(1, size);
    c = (struct redis_call){0};
    resp_reply_init(&c.reply);
    resp_add_header(&q->out, 1);
    resp_add_arg(&q->out, large, size);
    size_t total = q->out.len;
    redis_queue_push(q, &c, 0, 1);
    CHECK_EQ(redisconn_step(w.conn, 0), REDIS_IO_READ | REDIS_IO_WRITE);
    CHECK_EQ(c.state, REDIS_CALL_UNSENT);
    size_t got = 0;
    unsigned interest = REDIS_IO_WRITE;
    while (interest & REDIS_IO_WRITE) {
        ssize_t n;
        while ((n = read(w.server, large, size)) > 0)
            got += (size_t)n;
        interest = redisconn_step(w.conn, REDIS_IO_WRITE);
    }
    ssize_t n;
    while ((n = read(w.server, large, size)) > 0)
        got += (size_t)n;
    CHECK_EQ(got, total);
    CHECK_EQ(c.state, REDIS_CALL_SENT);
    CHECK(q->out.cap < size);
    free(large);
    say_text(&w, "+OK\r\n");
    CHECK_EQ(redisconn_step(w.conn, REDIS_IO_READ), REDIS_IO_READ | REDISCONN_DONE);
    resp_reply_clear(&c.reply);
    close_world(&w);
}

/* The server answers the first commands of a pipeline before it has received the last ones. */
static void test_early_replies(void)
{
    enum { COMMANDS = 100000 };
    struct world w = open_world();
    struct redis_call c;
    static char drain[1 << 20];
    redisconn_listen(w.conn, &events, &w);
    ask(&w, &c, COMMANDS);
    CHECK_EQ(redisconn_step(w.conn, 0), REDIS_IO_READ | REDIS_IO_WRITE);
    CHECK_EQ(c.state, REDIS_CALL_SENT);
    CHECK(!redis_queue_drop(redisconn_queue(w.conn), &c));
    c.dropped = false;
    uint32_t answered = 0;
    unsigned got = REDIS_IO_WRITE;
    size_t bytes = 0;
    while (!(got & (REDISCONN_DONE | REDISCONN_BROKEN))) {
        ssize_t n = read(w.server, drain, sizeof drain);
        bytes += n > 0 ? (size_t)n : 0;
        for (; answered < bytes / 14 && answered < COMMANDS; answered++)
            if (write(w.server, ":1\r\n", 4) != 4)
                break;
        got = redisconn_step(w.conn, REDIS_IO_READ | REDIS_IO_WRITE);
    }
    CHECK(got & REDISCONN_DONE);
    CHECK_EQ(w.done, 1);
    CHECK_EQ(answered, COMMANDS);
    resp_reply_clear(&c.reply);
    close_world(&w);
}

/* Random bytes made of pieces of RESP: never a crash, and every call is settled exactly once. */
static void test_fuzz(void)
{
    static const char *const pieces[] = {
        "*1\r\n",  "*2\r\n",          "$3\r\nabc\r\n",   ":5\r\n", "+OK\r\n", "-ERR x\r\n", "$-1\r\n",
        "*-1\r\n", "*0\r\n",          "*-2\r\n",         "\r\n",   "$",       "*",          "9",
        "\n",      "$2147483647\r\n", "*2147483647\r\n", "%2\r\n", "_\r\n",   "xyz"};
    struct prng r = prng_new(check_seed("redis_fuzz"));
    uint64_t rounds = check_ops(3000);
    for (uint64_t round = 0; round < rounds; round++) {
        enum { CALLS = 8 };
        struct world w = open_world();
        struct redis_call calls[CALLS];
        redisconn_listen(w.conn, &events, &w);
        for (int i = 0; i < CALLS; i++)
            ask(&w, &calls[i], 1 + prng_below(&r, 2));
        redisconn_step(w.conn, 0);
        for (int i = 0; i < 40; i++) {
            uint32_t limit = prng_one_in(&r, 4) ? sizeof pieces / sizeof *pieces : 9;
            const char *p = pieces[prng_below(&r, limit)];
            say(&w, p, strlen(p));
            if (prng_one_in(&r, 3) && (redisconn_step(w.conn, REDIS_IO_READ) & REDISCONN_BROKEN))
                break;
        }
        redisconn_step(w.conn, REDIS_IO_READ);
        unsigned back = w.done;
        while (redisconn_pop_sent(w.conn))
            back++;
        if (!CHECK_EQ(back, CALLS))
            round = rounds;
        for (int i = 0; i < CALLS; i++)
            resp_reply_clear(&calls[i].reply);
        close_world(&w);
    }
}

int main(void)
{
    target = redis_target_new();
    redis_target_set(target, REDIS_PATH, "/test.sock");
    redis_target_seal(target);
    TEST("replies of every kind answer the calls in order", test_whole);
    TEST("a reply can be cut at any byte", test_every_split);
    TEST("a call of several commands gets all its replies", test_several_replies);
    TEST("hostile replies are protocol errors", test_hostile);
    TEST("hostile replies of RESP3 are protocol errors too", test_hostile_resp3);
    TEST("an announced number of elements costs no memory", test_huge_count);
    TEST("a line without an end is refused", test_endless_line);
    TEST("a reply that is cut off is an error, not an answer", test_truncated);
    TEST("an unexpected reply breaks the connection", test_unasked);
    TEST("a subscribed connection accepts pushes", test_pushes);
    TEST("a connection that the server closed is not idle", test_closed_is_not_idle);
    TEST("a dropped call swallows its own reply and no other", test_tombstone);
    TEST("a full socket asks for writability and loses nothing", test_full_socket);
    TEST("a pipeline can be answered while it is still being sent", test_early_replies);
    TEST("whatever the server sends, each call is settled once", test_fuzz);
    redis_target_unref(target);
    return check_end("redis_machine");
}
