/* A connection over TLS whose server stops reading: OpenSSL has encrypted more than it could send. The other
 * end of the socket pair is a TLS server that counts the commands it gets. */
#include "check.h"

#include "redis/conn.h"

#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CALLS = 600, SMALL = 200, MOST_STEPS = 100000 };

static struct redis_target *target;
static SSL_CTX *server_context;

struct world {
    int fd;
    SSL *server;
    struct redisconn *conn;
    struct redis_call calls[CALLS];
    bool not_sent[CALLS];
    unsigned times[CALLS]; /* how often the server got the command */
    int last;              /* the number of the newest command that the server got */
    struct buf in;
};

/* ---- the server ---- */

static SSL_CTX *make_context(void)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    if (!ctx || !key || !cert)
        abort();
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -60);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    if (!X509_sign(cert, key, EVP_sha256()) || SSL_CTX_use_certificate(ctx, cert) != 1 ||
        SSL_CTX_use_PrivateKey(ctx, key) != 1)
        abort();
    SSL_CTX_set_num_tickets(ctx, 0);
    X509_free(cert);
    EVP_PKEY_free(key);
    return ctx;
}

/* Takes one command "*2 ECHO number:xxx" from the bytes received; -1 = no complete command. */
static int take_command(struct world *w)
{
    static const char head[] = "*2\r\n$4\r\nECHO\r\n$";
    if (w->in.len < sizeof head)
        return -1;
    if (!CHECK(memcmp(w->in.data, head, sizeof head - 1) == 0)) {
        buf_clear(&w->in);
        return -1;
    }
    char *end;
    size_t size = strtoul(w->in.data + sizeof head - 1, &end, 10);
    size_t whole = (size_t)(end - w->in.data) + 2 + size + 2;
    if (w->in.len < whole)
        return -1;
    int number = (int)strtol(end + 2, NULL, 10);
    CHECK(memcmp(w->in.data + whole - 2, "\r\n", 2) == 0);
    buf_consume(&w->in, whole);
    return number;
}

/* Reads at most `most` bytes; false when there is nothing more now. */
static bool server_reads(struct world *w, size_t most)
{
    char chunk[4096];
    size_t n;
    int number;
    if (SSL_read_ex(w->server, chunk, most < sizeof chunk ? most : sizeof chunk, &n) != 1)
        return false;
    buf_add(&w->in, chunk, n);
    while ((number = take_command(w)) >= 0) {
        if (!CHECK(number < CALLS))
            break;
        w->times[number]++;
        CHECK(number >= w->last); /* equal numbers: a call of several commands */
        w->last = number;
    }
    return true;
}

static void gone(struct redis_call *c, void *data)
{
    (void)c;
    (void)data;
}

static const struct redisconn_events events = {gone, NULL};

static struct world *open_world(void)
{
    int fds[2], small = 8192;
    struct error e = {0};
    struct world *w = calloc(1, sizeof *w);
    if (!w || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0 ||
        setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small) != 0)
        abort();
    w->fd = fds[1];
    w->server = SSL_new(server_context);
    w->conn = redisconn_new(fds[0], target, &e);
    if (!w->server || !w->conn || SSL_set_fd(w->server, w->fd) != 1)
        abort();
    redisconn_listen(w->conn, &events, w);
    SSL_set_accept_state(w->server);
    for (int i = 0; redisconn_state(w->conn) != REDISCONN_OPEN || !SSL_is_init_finished(w->server); i++) {
        if (i > MOST_STEPS || (redisconn_step(w->conn, REDIS_IO_READ) & REDISCONN_BROKEN))
            abort();
        SSL_do_handshake(w->server);
    }
    return w;
}

static void close_world(struct world *w)
{
    redisconn_free(w->conn);
    SSL_free(w->server);
    close(w->fd);
    buf_free(&w->in);
    free(w);
}

/* Queues call `i`: `expect` commands with `size` bytes each. */
static void ask(struct world *w, int i, size_t size, uint32_t expect)
{
    struct redis_queue *q = redisconn_queue(w->conn);
    size_t from = q->out.len;
    char *text = malloc(size);
    if (!text)
        abort();
    memset(text, 'x', size);
    int n = snprintf(text, size, "%d", i);
    text[n] = ':';
    resp_reply_init(&w->calls[i].reply);
    for (uint32_t k = 0; k < expect; k++) {
        resp_add_header(&q->out, 2);
        resp_add_arg(&q->out, "ECHO", 4);
        resp_add_arg(&q->out, text, size);
    }
    free(text);
    redis_queue_push(q, &w->calls[i], from, expect);
}

static void ask_many(struct world *w)
{
    for (int i = 0; i < CALLS; i++)
        ask(w, i, SMALL, 1);
    CHECK(redisconn_step(w->conn, 0) & REDIS_IO_WRITE);
}

/* Runs until everything is sent, and everything that was sent is read. */
static void let_all_through(struct world *w)
{
    unsigned got = REDIS_IO_WRITE;
    for (int i = 0; i < MOST_STEPS && (got & REDIS_IO_WRITE); i++) {
        got = redisconn_step(w->conn, REDIS_IO_WRITE);
        while (server_reads(w, 4096))
            ;
    }
    if (!CHECK(!(got & (REDISCONN_BROKEN | REDIS_IO_WRITE))))
        printf("    %s\n", got & REDISCONN_BROKEN ? redisconn_error(w->conn)->message : "not all was sent");
    while (server_reads(w, 4096))
        ;
    CHECK_EQ(w->in.len, 0);
}

static unsigned drop_all(struct world *w, int from)
{
    unsigned not_sent = 0;
    for (int i = from; i < CALLS; i++)
        if (redis_queue_drop(redisconn_queue(w->conn), &w->calls[i])) {
            w->not_sent[i] = true;
            not_sent++;
        }
    return not_sent;
}

/* ---- dropped commands ---- */

static void test_drop(void)
{
    struct world *w = open_world();
    ask_many(w);
    unsigned not_sent = drop_all(w, 0);
    CHECK(not_sent > 0 && not_sent < CALLS);
    redis_queue_compact(redisconn_queue(w->conn), gone, NULL);
    for (int i = 0; i < CALLS; i++)
        CHECK_EQ(w->calls[i].state == REDIS_CALL_DONE, w->not_sent[i]);
    let_all_through(w);
    for (int i = 0; i < CALLS; i++)
        CHECK_EQ(w->times[i], w->not_sent[i] ? 0 : 1);
    close_world(w);
}

/* Drops the first half of the commands, part of which is in the record, and then adds new ones. */
static void test_drop_and_ask(void)
{
    struct world *w = open_world();
    for (int i = 0; i < CALLS / 2; i++)
        ask(w, i, SMALL, 1);
    CHECK(redisconn_step(w->conn, 0) & REDIS_IO_WRITE);
    for (int i = 0; i < CALLS / 2; i++)
        w->not_sent[i] = redis_queue_drop(redisconn_queue(w->conn), &w->calls[i]);
    for (int i = CALLS / 2; i < CALLS; i++)
        ask(w, i, SMALL, 1);
    let_all_through(w);
    for (int i = 0; i < CALLS; i++)
        CHECK_EQ(w->times[i], w->not_sent[i] ? 0 : 1);
    close_world(w);
}

/* ---- commands that move to another connection ---- */

/* The server reads slowly, so that many writes block; then the connection is lost. */
static void test_lost(void)
{
    struct world *w = open_world();
    struct redis_queue other = {0};
    struct error why = {0};
    struct redis_call *c;
    unsigned moved = 0;
    ask_many(w);
    for (int i = 0; i < 12; i++) {
        server_reads(w, 4096);
        redisconn_step(w->conn, REDIS_IO_WRITE);
    }
    error_set(&why, ERROR_CONNECT, "given up");
    redisconn_give_up(w->conn, &why);
    while (redisconn_pop_sent(w->conn))
        ;
    CHECK(redisconn_move_unsent(w->conn, &other));
    redisconn_free(w->conn);
    w->conn = NULL;
    while (server_reads(w, 4096))
        ;
    while ((c = redis_queue_pop(&other))) {
        CHECK_EQ(w->times[c - w->calls], 0);
        moved++;
    }
    CHECK(moved > 0 && moved < CALLS);
    CHECK_EQ(w->times[0], 1);
    redis_queue_free(&other);
    error_clear(&why);
    close_world(w);
}

/* A connection gets no more commands while the end of a call of several commands is in a record with others.
 */
static void test_retired(void)
{
    struct world *w = open_world();
    struct redis_queue other = {0};
    struct redis_call *c;
    unsigned moved = 0, kept = 0;
    ask(w, 0, 4096, 5);
    for (int i = 1; i < CALLS; i++)
        ask(w, i, SMALL, 1);
    for (int i = 0; i < MOST_STEPS && redisconn_queue(w->conn)->written == 0; i++) {
        CHECK(redisconn_step(w->conn, REDIS_IO_WRITE) & REDIS_IO_WRITE);
        server_reads(w, 1000);
    }
    unsigned not_sent = drop_all(w, CALLS - 3);
    CHECK_EQ(not_sent, 3);
    CHECK(redisconn_queue(w->conn)->start > redisconn_queue(w->conn)->written);
    CHECK(redisconn_move_unsent(w->conn, &other));
    CHECK_EQ(other.dropped, 3);
    for (int i = 0; i < MOST_STEPS && redis_queue_pending(redisconn_queue(w->conn)) > 0; i++) {
        CHECK(!(redisconn_step(w->conn, REDIS_IO_WRITE) & REDISCONN_BROKEN));
        while (server_reads(w, 4096))
            ;
    }
    while (server_reads(w, 4096))
        ;
    while ((c = redisconn_pop_sent(w->conn))) {
        CHECK_EQ(w->times[c - w->calls], c == w->calls ? 5 : 1);
        kept++;
    }
    while ((c = redis_queue_pop(&other))) {
        CHECK_EQ(w->times[c - w->calls], 0);
        moved++;
    }
    CHECK(kept > 1 && moved > 0);
    CHECK_EQ(kept + moved, CALLS);
    redis_queue_free(&other);
    close_world(w);
}

/* A command that was dropped in a partly sent record is not sent on the next connection. */
static void test_dropped_in_record(void)
{
    struct world *w = open_world();
    struct redis_queue other = {0};
    ask_many(w);
    drop_all(w, 0);
    CHECK(redisconn_move_unsent(w->conn, &other));
    redis_queue_compact(&other, gone, NULL);
    CHECK(other.head == NULL);
    CHECK_EQ(redis_queue_pending(&other), 0);
    CHECK_EQ(other.dropped_size, 0);
    redis_queue_free(&other);
    close_world(w);
}

/* Whether the connection is cut when `take` removes its commands, after a write or without one. */
static bool is_cut_by(void (*take)(struct world *w), bool writes)
{
    struct world *w = open_world();
    for (int i = 0; i < CALLS; i++)
        ask(w, i, SMALL, 1);
    if (writes)
        CHECK(redisconn_step(w->conn, 0) & REDIS_IO_WRITE);
    CHECK_EQ(redisconn_queue(w->conn)->taken > 0, writes);
    CHECK(!redisconn_is_cut(w->conn));
    take(w);
    bool cut = redisconn_is_cut(w->conn);
    close_world(w);
    return cut;
}

static void move_all(struct world *w)
{
    struct redis_queue other = {0};
    CHECK(redisconn_move_unsent(w->conn, &other));
    CHECK(!other.cut);
    redis_queue_free(&other);
}

static void pop_all(struct world *w)
{
    while (redis_queue_pop(redisconn_queue(w->conn)))
        ;
}

static void test_cut(void)
{
    CHECK(is_cut_by(move_all, true));
    CHECK(is_cut_by(pop_all, true));
    CHECK(!is_cut_by(move_all, false));
    CHECK(!is_cut_by(pop_all, false));
}

int main(void)
{
    target = redis_target_new();
    redis_target_set(target, REDIS_PATH, "/test.sock");
    target->tls = true;
    target->verify = false;
    redis_target_seal(target);
    signal(SIGPIPE, SIG_IGN); /* for the server's side, once the connection is closed */
    server_context = make_context();
    TEST("commands in a record that is being sent cannot be dropped, the others can", test_drop);
    TEST("commands can follow dropped ones", test_drop_and_ask);
    TEST("commands that move to another connection were not run, however often writes blocked", test_lost);
    TEST("a connection that gets no more commands completes its record", test_retired);
    TEST("dropped commands of a record are not sent on the next connection", test_dropped_in_record);
    TEST("a connection is cut when a removed command was partly sent", test_cut);
    SSL_CTX_free(server_context);
    redis_target_unref(target);
    return check_end("redis_tls");
}
