/* Replies from bytes to the tape: of any depth, in any pieces, and refusal of those that cannot end. */
#include "check.h"
#include "redis_resp3.h"

#include "redis/reader.h"

static struct resp_reply pushes;

/* ---- reading ---- */

/* Feeds the bytes in pieces (`piece` bytes each; 0: of random size) and counts the replies. */
static enum redis_read read_in_pieces(struct redis_reader *r, struct resp_reply *to, const char *data,
                                      size_t len, size_t piece, struct prng *random, unsigned *replies)
{
    enum redis_read got = REDIS_READ_MORE;
    *replies = 0;
    for (size_t at = 0; at < len;) {
        size_t n = piece ? piece : 1 + prng_below(random, 40);
        n = n < len - at ? n : len - at;
        if (!redis_reader_feed(r, data + at, n))
            abort();
        at += n;
        while ((got = redis_reader_next(r, to)) == REDIS_READ_REPLY)
            ++*replies;
        if (got == REDIS_READ_REFUSED)
            return got;
    }
    return got;
}

static enum redis_read read_at_once(struct redis_reader *r, struct resp_reply *to, const struct buf *wire,
                                    unsigned *replies)
{
    return read_in_pieces(r, to, wire->data, wire->len, wire->len, NULL, replies);
}

/* Reads one reply in one piece into `to`, which the caller clears. */
static bool reads_whole(struct resp_reply *to, const struct buf *wire)
{
    struct redis_reader r;
    unsigned replies;
    resp_reply_init(to);
    if (!redis_reader_open(&r, &pushes))
        abort();
    bool ok =
        read_at_once(&r, to, wire, &replies) == REDIS_READ_MORE && replies == 1 && redis_reader_is_empty(&r);
    redis_reader_close(&r);
    return ok;
}

static bool same_tape(const struct resp_reply *a, const struct resp_reply *b)
{
    struct resp_cursor x = resp_cursor(a);
    struct resp_cursor y = resp_cursor(b);
    struct resp_item p;
    struct resp_item q;
    while (resp_next(&x, &p))
        if (!resp_next(&y, &q) || p.type != q.type || p.integer != q.integer || p.size != q.size ||
            (p.text && memcmp(p.text, q.text, p.size) != 0))
            return false;
    return !resp_next(&y, &q);
}

/* ---- depth ---- */

static void add_chain(struct buf *wire, int depth, const char *first)
{
    for (int i = 0; i < depth; i++)
        buf_adds(wire, first);
    buf_addf(wire, ":%d\r\n", depth);
}

static void test_chains(void)
{
    for (int depth = 1; depth <= 100; depth++) {
        struct buf wire = {0};
        struct resp_reply got;
        struct resp_item item;
        add_chain(&wire, depth, "*1\r\n");
        CHECK(reads_whole(&got, &wire));
        struct resp_cursor c = resp_cursor(&got);
        for (int i = 0; i < depth; i++)
            CHECK(resp_next(&c, &item) && item.type == RESP_ARRAY && item.size == 1);
        CHECK(resp_next(&c, &item) && item.type == RESP_INTEGER && item.integer == depth);
        CHECK(!resp_next(&c, &item));
        resp_reply_clear(&got);
        buf_free(&wire);
    }
}

/* A chain that has a value before and after each array: [0, [0, [..., 9], 9], 9]. */
static void test_deep_with_neighbours(void)
{
    enum { DEPTH = 90000 };
    struct buf wire = {0};
    struct resp_reply got;
    struct resp_item item;
    add_chain(&wire, DEPTH, "*3\r\n:0\r\n");
    for (int i = 0; i < DEPTH; i++)
        buf_adds(&wire, ":9\r\n");
    CHECK(reads_whole(&got, &wire));
    struct resp_cursor c = resp_cursor(&got);
    bool right = true;
    for (int i = 0; i < DEPTH && right; i++)
        right = resp_next(&c, &item) && item.type == RESP_ARRAY && item.size == 3 && resp_next(&c, &item) &&
                item.integer == 0;
    right = right && resp_next(&c, &item) && item.integer == DEPTH;
    for (int i = 0; i < DEPTH && right; i++)
        right = resp_next(&c, &item) && item.integer == 9;
    CHECK(right && !resp_next(&c, &item));
    c = resp_cursor(&got);
    CHECK(resp_skip(&c) && c.at == c.end);
    resp_reply_clear(&got);
    buf_free(&wire);
}

/* ---- random trees ---- */

/* Writes the value as a server sends it, and on the tape as it must arrive. */
static void put_scalar(struct prng *random, struct buf *wire, struct resp_reply *want)
{
    char text[200];
    size_t len = prng_below(random, prng_one_in(random, 10) ? sizeof text : 12);
    for (size_t i = 0; i < len; i++)
        text[i] = (char)prng_below(random, 256);
    int64_t number = (int64_t)prng_next(random);
    switch (prng_below(random, 6)) {
    case 0:
        buf_adds(wire, prng_one_in(random, 2) ? "$-1\r\n" : "*-1\r\n");
        resp_put_nil(want);
        break;
    case 1:
        buf_addf(wire, ":%lld\r\n", (long long)number);
        resp_put_integer(want, number);
        break;
    case 2:
        buf_adds(wire, "+OK\r\n");
        resp_put_text(want, RESP_STATUS, "OK", 2);
        break;
    case 3:
        buf_adds(wire, "-ERR no\r\n");
        resp_put_text(want, RESP_ERROR, "ERR no", 6);
        break;
    default:
        buf_addf(wire, "$%zu\r\n", len);
        buf_add(wire, text, len);
        buf_adds(wire, "\r\n");
        resp_put_text(want, RESP_STRING, text, len);
    }
}

/* A scalar of RESP3, which becomes one of RESP2. */
static void put_scalar_resp3(struct prng *random, struct buf *wire, struct resp_reply *want)
{
    static const char *const doubles[] = {"inf", "-inf", "3.1400000000000001", "-0", "1e+300"};
    static const char number[] = "-3492890328409238509324850943850943825024385";
    const char *text = doubles[prng_below(random, 5)];
    bool yes = prng_one_in(random, 2);
    switch (prng_below(random, BIG_NUMBERS ? 5 : 4)) {
    case 0:
        buf_adds(wire, "_\r\n");
        resp_put_nil(want);
        break;
    case 1:
        buf_addf(wire, ",%s\r\n", text);
        resp_put_text(want, RESP_STRING, text, strlen(text));
        break;
    case 2:
        buf_adds(wire, yes ? "#t\r\n" : "#f\r\n");
        resp_put_integer(want, yes);
        break;
    case 3:
        buf_adds(wire, yes ? "=9\r\ntxt:a\r\nb!\r\n" : "=4\r\nmkd:\r\n");
        resp_put_text(want, RESP_STRING, "a\r\nb!", yes ? 5 : 0);
        break;
    default:
        buf_addf(wire, "(%s\r\n", number);
        resp_put_text(want, RESP_STRING, number, sizeof number - 1);
    }
}

static void put_any_scalar(struct prng *random, struct buf *wire, struct resp_reply *want)
{
    if (RESP3 && prng_one_in(random, 2))
        put_scalar_resp3(random, wire, want);
    else
        put_scalar(random, wire, want);
}

/* Writes what begins an array of `n` elements, or a type of RESP3 that becomes one; returns how many. */
static uint32_t put_header(struct prng *random, struct buf *wire, struct resp_reply *want, uint32_t n,
                           bool root)
{
    char type = '*';
    if (RESP3 && prng_one_in(random, 2))
        type = "~%>"[prng_below(random, root ? 2 : 3)];
    buf_addf(wire, "%c%u\r\n", type, n);
    n *= type == '%' ? 2 : 1;
    resp_put_array(want, n);
    return n;
}

/* An attribute with `n` pairs, no part of the reply; some values are arrays with an attribute in them. */
static void put_attribute(struct prng *random, struct buf *wire, uint32_t n)
{
    struct resp_reply nobody;
    resp_reply_init(&nobody);
    buf_addf(wire, "|%u\r\n", n);
    for (uint32_t i = 0; i < 2 * n; i++) {
        if (prng_one_in(random, 4))
            buf_adds(wire, "*2\r\n*0\r\n|1\r\n+ttl\r\n:3\r\n");
        put_any_scalar(random, wire, &nobody);
    }
    resp_reply_clear(&nobody);
}

/* Without recursion: `open` values remain to be written, each of which can open more. */
static void put_tree(struct prng *random, struct buf *wire, struct resp_reply *want)
{
    uint64_t open = 1;
    uint32_t depth_bias = 2 + prng_below(random, 4);
    for (uint32_t values = 0; open > 0; values++) {
        open--;
        if (ATTRIBUTES && prng_one_in(random, 8))
            put_attribute(random, wire, prng_below(random, 4));
        if (values > 400 || (values > 0 && prng_one_in(random, depth_bias))) {
            put_any_scalar(random, wire, want);
            continue;
        }
        uint32_t n = prng_one_in(random, 3) ? 1 : prng_below(random, 5);
        open += put_header(random, wire, want, n, values == 0);
    }
}

static void test_random_trees(void)
{
    struct prng random = prng_new(check_seed("redis_reader"));
    uint64_t rounds = check_ops(3000);
    for (uint64_t i = 0; i < rounds; i++) {
        struct buf wire = {0};
        struct resp_reply want;
        struct resp_reply got;
        struct redis_reader r;
        unsigned replies;
        unsigned trees = 1 + prng_below(&random, 3); /* one after the other, as in a pipeline */
        resp_reply_init(&want);
        resp_reply_init(&got);
        for (unsigned k = 0; k < trees; k++)
            put_tree(&random, &wire, &want);
        if (!redis_reader_open(&r, &pushes))
            abort();
        size_t piece = prng_one_in(&random, 3) ? wire.len : prng_below(&random, 4);
        CHECK_EQ(read_in_pieces(&r, &got, wire.data, wire.len, piece, &random, &replies), REDIS_READ_MORE);
        bool right =
            CHECK_EQ(replies, trees) && CHECK(same_tape(&got, &want)) && CHECK(redis_reader_is_empty(&r));
        redis_reader_close(&r);
        resp_reply_clear(&want);
        resp_reply_clear(&got);
        buf_free(&wire);
        if (!right)
            return;
    }
}

/* One tree that goes below the last level of the parser and comes back, cut at each of its bytes. */
static void test_every_split(void)
{
    static const char text[] =
        "*2\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*3\r\n:1\r\n*2\r\n*2\r\n$3\r\na\r\n\r\n"
        "*0\r\n$-1\r\n*1\r\n*1\r\n+x\r\n$12\r\nhello, world\r\n";
    size_t len = sizeof text - 1;
    struct buf wire = {0};
    struct resp_reply want;
    buf_add(&wire, text, len);
    CHECK(reads_whole(&want, &wire));
    for (size_t cut = 1; cut < len; cut++) {
        struct redis_reader r;
        struct resp_reply got;
        resp_reply_init(&got);
        if (!redis_reader_open(&r, &pushes) || !redis_reader_feed(&r, text, cut))
            abort();
        CHECK_EQ(redis_reader_next(&r, &got), REDIS_READ_MORE);
        if (!redis_reader_feed(&r, text + cut, len - cut))
            abort();
        CHECK_EQ(redis_reader_next(&r, &got), REDIS_READ_REPLY);
        CHECK(same_tape(&got, &want));
        redis_reader_close(&r);
        resp_reply_clear(&got);
    }
    resp_reply_clear(&want);
    buf_free(&wire);
}

/* ---- short replies ---- */

/* Takes what is short from the front of `data`, and feeds the rest, as a connection does. */
static enum redis_read take_and_feed(struct redis_reader *r, struct resp_reply *to, const char *data,
                                     size_t len, unsigned *replies, unsigned *taken)
{
    enum redis_read got = REDIS_READ_MORE;
    for (size_t n; (n = redis_reader_take(r, to, data, len)); data += n, len -= n)
        ++*replies, ++*taken;
    if (len > 0 && !redis_reader_feed(r, data, len))
        abort();
    while ((got = redis_reader_next(r, to)) == REDIS_READ_REPLY)
        ++*replies;
    return got;
}

/* The same bytes make the same tape, cut at any of them, whether short replies are taken or hiredis reads
 * all. */
static void check_taken(const char *text, size_t len, unsigned want_replies, unsigned want_taken)
{
    struct redis_reader r;
    struct resp_reply want;
    unsigned replies;
    struct buf wire = {0};
    buf_add(&wire, text, len);
    resp_reply_init(&want);
    if (!redis_reader_open(&r, &pushes))
        abort();
    CHECK_EQ(read_at_once(&r, &want, &wire, &replies), REDIS_READ_MORE);
    CHECK_EQ(replies, want_replies);
    redis_reader_close(&r);
    for (size_t cut = 0; cut < len; cut++) {
        struct resp_reply got;
        unsigned taken = 0;
        char *first = malloc(cut + 1); /* blocks that end with the bytes: reading on is an error */
        char *rest = malloc(len - cut);
        resp_reply_init(&got);
        replies = 0;
        if (!first || !rest || !redis_reader_open(&r, &pushes))
            abort();
        memcpy(first, text, cut);
        memcpy(rest, text + cut, len - cut);
        CHECK_EQ(take_and_feed(&r, &got, first, cut, &replies, &taken), REDIS_READ_MORE);
        CHECK_EQ(take_and_feed(&r, &got, rest, len - cut, &replies, &taken), REDIS_READ_MORE);
        CHECK_EQ(replies, want_replies);
        CHECK(cut > 0 || taken == want_taken);
        CHECK(same_tape(&got, &want));
        redis_reader_close(&r);
        resp_reply_clear(&got);
        free(first);
        free(rest);
    }
    resp_reply_clear(&want);
    buf_free(&wire);
}

static void test_short(void)
{
    static const char all_short[] =
        "+OK\r\n:0\r\n:-1\r\n:123456789012345678\r\n$-1\r\n$0\r\n\r\n$3\r\na\r\n\r\n"
        "$16\r\n0123456789abcdef\r\n$17\r\n0123456789abcdefg\r\n+\r\n+\xc3\xa9\r\n$10\r\n0123456789\r\n";
    check_taken(all_short, sizeof all_short - 1, 12, 12);
    static const char mixed[] = "+OK\r\n*2\r\n$1\r\na\r\n*0\r\n:7\r\n-ERR no\r\n+OK\r\n";
    check_taken(mixed, sizeof mixed - 1, 5, 1);
    static const char long_numbers[] = ":9223372036854775807\r\n:-9223372036854775808\r\n";
    check_taken(long_numbers, sizeof long_numbers - 1, 2, 0);
}

/* Bytes that break the protocol are left for hiredis to refuse. */
static void test_not_short(void)
{
    static const char *const texts[] = {"+a\nb\r\n",
                                        "+a\rb\r\n",
                                        ":\r\n",
                                        ":01\r\n",
                                        ":-0\r\n",
                                        ":1x\r\n",
                                        ":+1\r\n",
                                        "$01\r\na\r\n",
                                        "$1\r\nab\r\n",
                                        "$-2\r\n",
                                        "$\r\n",
                                        "$1\ra\r\n",
                                        "$1\r\na\rx\r\n",
                                        ":1\n\r\n",
                                        "-ERR\r\n",
                                        "*0\r\n",
                                        "_\r\n",
                                        "?1\r\n",
                                        ":1234567890123456789\r\n",
                                        "$18446744073709551617\r\na\r\n",
                                        "$1000000000000000000\r\na\r\n"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct resp_reply r;
        resp_reply_init(&r);
        CHECK_EQ(resp_take_short(&r, texts[i], strlen(texts[i])), 0);
        CHECK_EQ(r.len, 0);
    }
}

/* ---- replies that cannot end ---- */

/* Refused, with these words, as soon as the last byte arrives, and with little memory. */
static void check_refused(const struct buf *wire, const char *says, bool too_large)
{
    struct redis_reader r;
    struct resp_reply got;
    unsigned replies;
    resp_reply_init(&got);
    if (!redis_reader_open(&r, &pushes))
        abort();
    CHECK_EQ(read_at_once(&r, &got, wire, &replies), REDIS_READ_REFUSED);
    if (!CHECK(strstr(redis_reader_refusal(&r), says) != NULL))
        printf("    said: %s\n", redis_reader_refusal(&r));
    CHECK_EQ(r.too_large, too_large);
    CHECK(got.cap < 64 * 1024);
    redis_reader_close(&r);
    resp_reply_clear(&got);
}

static void test_lying_counts(void)
{
    static const char many[] = "more elements were announced than fit";
    struct buf wire = {0};
    buf_adds(&wire, "*2147483647\r\n");
    check_refused(&wire, many, true);
    /* The most that fits, and one more. */
    buf_clear(&wire);
    buf_adds(&wire, "*67108864\r\n");
    check_refused(&wire, many, true);
    buf_clear(&wire);
    buf_adds(&wire, "*67108863\r\n");
    struct resp_reply got;
    CHECK(!reads_whole(&got, &wire));
    CHECK_EQ(got.len, RESP_VALUE_SIZE);
    resp_reply_clear(&got);
    /* Each fits alone, all of them do not; above and below the last level of the parser. */
    for (int depth = 0; depth < 40; depth++) {
        buf_clear(&wire);
        for (int i = 0; i < depth; i++)
            buf_adds(&wire, "*2\r\n:1\r\n");
        for (int i = 0; i < 3; i++)
            buf_adds(&wire, "*30000000\r\n");
        check_refused(&wire, many, true);
    }
    buf_free(&wire);
}

static void test_lying_lengths(void)
{
    struct buf wire = {0};
    buf_adds(&wire, "*4\r\n$536870913\r\n");
    check_refused(&wire, "more than 512 MiB", true);
    buf_clear(&wire);
    buf_adds(&wire, "$9223372036854775807\r\n");
    check_refused(&wire, "more than 512 MiB", true);
    buf_clear(&wire);
    buf_adds(&wire, "*2\r\n$-2\r\n");
    check_refused(&wire, "length out of range", false);
    buf_clear(&wire);
    buf_adds(&wire, "*1\r\n*-2\r\n");
    check_refused(&wire, "length out of range", false);
    buf_clear(&wire);
    buf_adds(&wire, "*2\r\n*1\r\n$3\r\nabcde");
    check_refused(&wire, "longer than announced", false);
    buf_free(&wire);
}

/* ---- RESP3 ---- */

/* Pushes arrive between replies, and between a command and its reply. */
static void test_pushes(void)
{
    static const char text[] = ">2\r\n+invalidate\r\n*1\r\n+k\r\n*2\r\n:1\r\n:2\r\n>1\r\n+x\r\n>0\r\n:3\r\n";
    for (size_t piece = 1; piece < sizeof text; piece++) {
        struct redis_reader r;
        struct resp_reply got;
        struct resp_reply want;
        unsigned replies = 0;
        unsigned pushed = 0;
        resp_reply_init(&got);
        resp_reply_init(&want);
        resp_put_array(&want, 2);
        resp_put_integer(&want, 1);
        resp_put_integer(&want, 2);
        resp_put_integer(&want, 3);
        if (!redis_reader_open(&r, &pushes))
            abort();
        for (size_t at = 0; at < sizeof text - 1; at += piece) {
            size_t left = sizeof text - 1 - at;
            enum redis_read what;
            if (!redis_reader_feed(&r, text + at, piece < left ? piece : left))
                abort();
            while ((what = redis_reader_next(&r, &got)) != REDIS_READ_MORE) {
                replies += CHECK(what != REDIS_READ_REFUSED) && what == REDIS_READ_REPLY;
                if (what == REDIS_READ_PUSH) {
                    pushed++;
                    CHECK(pushes.len >= RESP_VALUE_SIZE);
                    resp_reply_clear(&pushes);
                }
            }
        }
        CHECK_EQ(replies, 2);
        CHECK_EQ(pushed, 3);
        CHECK(same_tape(&got, &want));
        redis_reader_close(&r);
        resp_reply_clear(&got);
        resp_reply_clear(&want);
    }
}

/* Attributes of attributes, 90,000 deep, on the tape and off it. */
static void test_deep_attributes(void)
{
    enum { DEPTH = 90000 };
    struct buf wire = {0};
    struct resp_reply got;
    struct resp_item item;
    for (int i = 0; i < DEPTH; i++)
        buf_adds(&wire, "|1\r\n+k\r\n");
    for (int i = 0; i < DEPTH; i++)
        buf_adds(&wire, ":1\r\n");
    buf_adds(&wire, "+value\r\n");
    CHECK(reads_whole(&got, &wire));
    struct resp_cursor c = resp_cursor(&got);
    CHECK(resp_next(&c, &item) && item.type == RESP_STATUS && item.size == 5);
    CHECK(!resp_next(&c, &item));
    resp_reply_clear(&got);
    buf_free(&wire);
}

int main(void)
{
    resp_reply_init(&pushes);
    TEST("arrays are read to a depth of 100", test_chains);
    TEST("arrays are read to a depth of 90,000, each in its place", test_deep_with_neighbours);
    TEST("random trees arrive as they were encoded", test_random_trees);
    TEST("a deep tree can be cut at any byte", test_every_split);
    TEST("short replies are taken as hiredis would read them", test_short);
    TEST("other replies are not taken as short ones", test_not_short);
    TEST("a count that cannot fit is refused at once, at any depth", test_lying_counts);
    TEST("a length that cannot fit is refused at once", test_lying_lengths);
    if (RESP3)
        TEST("pushes are kept apart from replies", test_pushes);
    if (ATTRIBUTES)
        TEST("attributes are left out of replies, at any depth", test_deep_attributes);
    return check_end("redis_reader");
}
