/* Commands and replies in Redis' protocol. */
#include "check.h"

#include "redis/queue.h"
#include "redis/resp.h"

#include <float.h>
#include <math.h>

static void test_command(void)
{
    struct buf b = {0};
    CHECK(resp_add_header(&b, 3));
    CHECK(resp_add_arg(&b, "SET", 3));
    CHECK(resp_add_arg(&b, "a\0b", 3));
    CHECK(resp_add_arg(&b, "", 0));
    static const char want[] = "*3\r\n$3\r\nSET\r\n$3\r\na\0b\r\n$0\r\n\r\n";
    CHECK_EQ(b.len, sizeof want - 1);
    CHECK(memcmp(b.data, want, sizeof want - 1) == 0);
    /* The same in one call, also when the lengths have several digits. */
    buf_clear(&b);
    static const char name[] = "$3\r\nSET\r\n";
    struct resp_text args[] = {{"a\0b", 3}, {"", 0}};
    CHECK(resp_add_command(&b, name, sizeof name - 1, args, 2));
    CHECK_EQ(b.len, sizeof want - 1);
    CHECK(memcmp(b.data, want, sizeof want - 1) == 0);
    buf_clear(&b);
    static char value[1234];
    struct buf plain = {0};
    struct resp_text long_args[12];
    CHECK(resp_add_header(&plain, 13) && buf_add(&plain, name, sizeof name - 1));
    for (size_t i = 0; i < 12; i++) {
        long_args[i] = (struct resp_text){value, i * 112};
        CHECK(resp_add_arg(&plain, value, i * 112));
    }
    CHECK(resp_add_command(&b, name, sizeof name - 1, long_args, 12));
    CHECK_EQ(b.len, plain.len);
    CHECK(memcmp(b.data, plain.data, plain.len) == 0);
    buf_free(&plain);
    buf_free(&b);
}

static void check_int(int64_t v, const char *want)
{
    struct buf b = {0};
    CHECK(resp_add_int(&b, v));
    CHECK_STR(b.data, want);
    buf_free(&b);
}

static void test_integers(void)
{
    check_int(0, "$1\r\n0\r\n");
    check_int(-1, "$2\r\n-1\r\n");
    check_int(INT64_MAX, "$19\r\n9223372036854775807\r\n");
    check_int(INT64_MIN, "$20\r\n-9223372036854775808\r\n");
}

static void check_double(double v, const char *want)
{
    struct buf b = {0};
    CHECK(resp_add_double(&b, v));
    char *text = strchr(b.data, '\n') + 1;
    text[strcspn(text, "\r")] = '\0';
    CHECK_STR(text, want);
    buf_free(&b);
}

static void test_doubles(void)
{
    check_double(0.1, "0.1");
    check_double(3.0, "3");
    check_double(-0.0, "-0");
    check_double(1e100, "1e+100");
    check_double(1.0 / 3, "0.3333333333333333");
    check_double(5e-324, "4.94065645841247e-324");
    check_double(DBL_MAX, "1.7976931348623157e+308");
    check_double(INFINITY, "inf");
    check_double(-INFINITY, "-inf");
    check_double(NAN, "nan");
}

static void test_doubles_come_back(void)
{
    struct prng r = prng_new(check_seed("redis_resp"));
    for (int i = 0; i < 20000; i++) {
        uint64_t bits = prng_next(&r);
        double v;
        memcpy(&v, &bits, sizeof v);
        if (!isfinite(v))
            continue;
        struct buf b = {0};
        resp_add_double(&b, v);
        double back = strtod(strchr(b.data, '\n') + 1, NULL);
        if (!CHECK(memcmp(&back, &v, sizeof v) == 0))
            i = 20000;
        buf_free(&b);
    }
}

static void test_tape(void)
{
    struct resp_reply r;
    struct resp_item item;
    resp_reply_init(&r);
    CHECK(resp_put_array(&r, 3));
    CHECK(resp_put_text(&r, RESP_STRING, "hello", 5));
    CHECK(resp_put_array(&r, 2));
    CHECK(resp_put_integer(&r, -7));
    CHECK(resp_put_nil(&r));
    CHECK(r.data == NULL || r.len > RESP_SMALL);
    char large[1000];
    memset(large, 'x', sizeof large);
    CHECK(resp_put_text(&r, RESP_ERROR, large, sizeof large));
    CHECK(resp_put_integer(&r, 42)); /* a second value, after the array */

    struct resp_cursor c = resp_cursor(&r);
    CHECK(resp_next(&c, &item) && item.type == RESP_ARRAY && item.size == 3);
    CHECK(resp_next(&c, &item) && item.type == RESP_STRING && item.size == 5 &&
          !memcmp(item.text, "hello", 5));
    CHECK(resp_skip(&c));
    CHECK(resp_next(&c, &item) && item.type == RESP_ERROR && item.size == sizeof large);
    CHECK(memcmp(item.text, large, sizeof large) == 0);
    CHECK(resp_next(&c, &item) && item.type == RESP_INTEGER && item.integer == 42);
    CHECK(!resp_next(&c, &item));

    c = resp_cursor(&r);
    CHECK(resp_skip(&c));
    CHECK(resp_next(&c, &item) && item.integer == 42);
    CHECK(!resp_skip(&c));

    struct resp_reply other;
    resp_reply_init(&other);
    resp_put_nil(&other);
    resp_reply_move(&other, &r);
    c = resp_cursor(&other);
    CHECK(resp_skip(&c) && resp_next(&c, &item) && item.integer == 42);
    CHECK(r.len == 0);
    resp_reply_clear(&other);
}

/* ---- the queue ---- */

static unsigned gone;

static void count(struct redis_call *c, void *data)
{
    (void)c;
    (void)data;
    gone++;
}

static void push(struct redis_queue *q, struct redis_call *c, const char *text)
{
    size_t from = q->out.len;
    buf_adds(&q->out, text);
    resp_reply_init(&c->reply);
    redis_queue_push(q, c, from, 1);
}

static void test_drop_unsent(void)
{
    struct redis_queue q = {0};
    struct redis_call a, b, c;
    push(&q, &a, "aaaa");
    push(&q, &b, "bbbb");
    push(&q, &c, "cccc");
    gone = 0;
    CHECK(redis_queue_drop(&q, &b));
    redis_queue_compact(&q, count, NULL);
    CHECK_STR(q.out.data, "aaaacccc");
    CHECK_EQ(gone, 1);
    CHECK_EQ(b.state, REDIS_CALL_DONE);
    CHECK(redis_queue_drop(&q, &c));
    CHECK(redis_queue_drop(&q, &a));
    redis_queue_compact(&q, count, NULL);
    CHECK_EQ(gone, 3);
    CHECK_EQ(q.out.len, 0);
    CHECK(!q.head && !q.tail);
    redis_queue_free(&q);
}

static void test_drop_half_sent(void)
{
    struct redis_queue q = {0};
    struct redis_call a, b;
    push(&q, &a, "aaaa");
    push(&q, &b, "bbbb");
    redis_queue_wrote(&q, 2, count, NULL);
    CHECK(!redis_queue_drop(&q, &a)); /* the server has half of it: the rest must be sent */
    CHECK(redis_queue_drop(&q, &b));
    gone = 0;
    redis_queue_compact(&q, count, NULL);
    CHECK_EQ(gone, 1);
    CHECK_STR(q.out.data, "aaaa");
    CHECK_EQ(redis_queue_pending(&q), 2);
    redis_queue_wrote(&q, 2, count, NULL);
    CHECK_EQ(gone, 2);
    CHECK_EQ(a.state, REDIS_CALL_SENT);
    CHECK(a.dropped);
    redis_queue_free(&q);
}

static void test_move(void)
{
    struct redis_queue from = {0};
    struct redis_queue to = {0};
    struct redis_call a, b, c;
    push(&from, &a, "aaaa");
    push(&from, &b, "bbbb");
    push(&from, &c, "cccc");
    redis_queue_wrote(&from, 6, count, NULL); /* a, and half of b */
    CHECK(redis_queue_move(&to, &from));
    CHECK_STR(to.out.data, "bbbbcccc");
    CHECK(to.head == &b && to.tail == &c && !from.head);
    CHECK_EQ(from.out.len, 0);
    CHECK_EQ(redis_queue_pending(&to), 8);
    CHECK(redis_queue_pop(&to) == &b);
    CHECK_EQ(redis_queue_pending(&to), 4);
    CHECK(redis_queue_pop(&to) == &c);
    CHECK(redis_queue_pop(&to) == NULL);
    CHECK_EQ(redis_queue_pending(&to), 0);
    redis_queue_free(&from);
    redis_queue_free(&to);
}

static void test_move_rest(void)
{
    struct redis_queue from = {0};
    struct redis_queue to = {0};
    struct redis_call a = {0}, b = {0}, c = {0}, d = {0}, e = {0};
    push(&to, &e, "eeee");
    push(&from, &a, "aaaa");
    push(&from, &b, "bbbb");
    push(&from, &c, "cccc");
    push(&from, &d, "dddd");
    redis_queue_wrote(&from, 6, count, NULL); /* a, and half of b */
    CHECK(redis_queue_drop(&from, &c));
    CHECK(redis_queue_move_rest(&to, &from));
    CHECK_STR(to.out.data, "eeeeccccdddd");
    CHECK(to.head == &e && to.tail == &d && to.dropped == 1);
    CHECK(from.head == &b && from.tail == &b && !from.cut && from.dropped == 0);
    CHECK(redis_queue_has(&from, &b) && redis_queue_has(&to, &d) && !redis_queue_has(&from, &d));
    CHECK_EQ(redis_queue_pending(&from), 2);
    push(&from, &a, "undo"); /* after the rest of b */
    gone = 0;
    redis_queue_wrote(&from, 6, count, NULL);
    CHECK_EQ(gone, 2);
    CHECK_EQ(redis_queue_pending(&from), 0);
    redis_queue_compact(&to, count, NULL);
    CHECK_STR(to.out.data, "eeeedddd");
    redis_queue_free(&from);
    redis_queue_free(&to);
}

/* A half-sent command counts as sent, because it has several replies; then the command that undoes it. */
static void test_move_rest_of_background(void)
{
    struct redis_queue from = {0};
    struct redis_queue to = {0};
    struct redis_call set = {0}, other = {0}, undo = {0}, last = {0};
    push(&from, &set, "SETPTTL");
    set.expect = 2;
    redis_queue_wrote(&from, 3, count, NULL);
    CHECK_EQ(set.state, REDIS_CALL_SENT);
    push(&from, &other, "oooo");
    push(&from, &undo, "undo");
    undo.background = true;
    push(&from, &last, "llll");
    CHECK(redis_queue_move_rest(&to, &from));
    CHECK_STR(to.out.data, "oooollll");
    CHECK(to.head == &other && other.next == &last && to.tail == &last && !last.next);
    CHECK(from.head == &undo && from.tail == &undo && !undo.next && !from.cut);
    CHECK_EQ(redis_queue_pending(&from), 8);
    CHECK(memcmp(from.out.data + from.written, "PTTLundo", 8) == 0);
    gone = 0;
    redis_queue_wrote(&from, 8, count, NULL);
    CHECK_EQ(gone, 1);
    CHECK_EQ(redis_queue_pending(&from), 0);
    redis_queue_free(&from);
    redis_queue_free(&to);
}

/* Random pushes, drops, writes: exactly the commands that were not dropped in time are sent. */
static void test_random_queue(void)
{
    enum { CALLS = 64 };
    struct prng r = prng_new(check_seed("redis_queue"));
    for (int round = 0; round < 300; round++) {
        struct redis_queue q = {0};
        static struct redis_call calls[CALLS];
        bool refused[CALLS] = {false};
        struct buf wire = {0};
        struct buf want = {0};
        int n = 0;
        gone = 0;
        while (n < CALLS || redis_queue_pending(&q) > 0) {
            uint32_t what = prng_below(&r, 4);
            if (what <= 1 && n < CALLS) {
                char text[300];
                memset(text, 'A' + n % 26, sizeof text);
                text[1 + prng_below(&r, 250)] = '\0';
                push(&q, &calls[n++], text);
            } else if (what == 2 && n > 0) {
                uint32_t i = prng_below(&r, (uint32_t)n);
                if (!calls[i].dropped && calls[i].state == REDIS_CALL_UNSENT)
                    refused[i] = redis_queue_drop(&q, &calls[i]);
            } else {
                redis_queue_compact(&q, count, NULL);
                size_t left = redis_queue_pending(&q);
                if (left == 0)
                    continue;
                size_t k = 1 + prng_below(&r, (uint32_t)(left < 200 ? left : 200));
                k = k > left ? left : k;
                buf_add(&wire, q.out.data + q.written, k);
                redis_queue_wrote(&q, k, count, NULL);
            }
        }
        redis_queue_compact(&q, count, NULL);
        for (int i = 0; i < CALLS; i++) {
            char letter = (char)('A' + i % 26);
            for (size_t k = 0; k < calls[i].size && !refused[i]; k++)
                buf_add(&want, &letter, 1);
        }
        CHECK_EQ(gone, CALLS);
        CHECK_EQ(wire.len, want.len);
        bool same = wire.len == want.len && (wire.len == 0 || memcmp(wire.data, want.data, want.len) == 0);
        buf_free(&wire);
        buf_free(&want);
        redis_queue_free(&q);
        if (!CHECK(same))
            return;
    }
}

int main(void)
{
    TEST("a command is written with its lengths, binary-safe", test_command);
    TEST("integers are written exactly", test_integers);
    TEST("floats are written in their shortest form", test_doubles);
    TEST("every float reads back as itself", test_doubles_come_back);
    TEST("a reply keeps its values in order, at any depth and size", test_tape);
    TEST("a command that is dropped before it is sent is never sent", test_drop_unsent);
    TEST("a command that is dropped half sent is sent to its end", test_drop_half_sent);
    TEST("commands that were not completely sent move to another connection", test_move);
    TEST("commands whose sending has not begun move to another connection", test_move_rest);
    TEST("the command that undoes another stays on the connection of that", test_move_rest_of_background);
    TEST("nothing is lost or mixed up by dropping at random", test_random_queue);
    return check_end("redis_resp");
}
