#include "redis/conn.h"
#include "base/number.h"

#include <hiredis/read.h>
#include <stdlib.h>
#include <string.h>

enum {
    READ_CHUNK = 32 * 1024,
    READS_PER_STEP = 64,       /* then other connections get a turn; the loop reports the rest again */
    KEEP_READER = 1024 * 1024, /* the reader gives back a larger buffer once it is empty */
    MAX_LINE = 1024 * 1024,    /* of a status or error reply */
    MAX_LENGTH_LINE = 32,      /* of the length before a string or an array */
};

struct redisconn {
    struct redis_transport transport;
    struct redis_target *target;
    redisReader *reader;
    struct redis_queue queue;
    struct redis_call *sent_head;
    struct redis_call *sent_tail;
    uint32_t unanswered;
    enum redisconn_state state;
    const char *refused; /* why the reader's functions refused a reply */
    uint64_t received;
    struct resp_reply push;
    const struct redisconn_events *events;
    void *data;
    struct error error;
};

/* ---- callbacks of hiredis' reader: each appends a value to the reply being received ---- */

static struct resp_reply *receiving(const redisReadTask *task, struct redisconn **conn)
{
    struct redisconn *c = task->privdata;
    *conn = c;
    return c->sent_head ? &c->sent_head->reply : &c->push;
}

/* The reader expects an object, NULL means failure. The tape has no objects: any pointer will do. */
static void *made(struct redisconn *c, bool ok)
{
    if (!ok && !c->refused)
        c->refused = "not enough memory for a reply";
    return ok ? c : NULL;
}

static bool fits(struct redisconn *c, const struct resp_reply *r, size_t more)
{
    if (r->len + more <= REDISCONN_MAX_REPLY)
        return true;
    c->refused = "the reply is too large";
    return false;
}

static void *read_string(const redisReadTask *task, char *text, size_t len)
{
    struct redisconn *c;
    struct resp_reply *r = receiving(task, &c);
    enum resp_type type = task->type == REDIS_REPLY_STATUS  ? RESP_STATUS
                          : task->type == REDIS_REPLY_ERROR ? RESP_ERROR
                                                            : RESP_STRING;
    /* The reader cuts the string at the announced length and does not check what follows. */
    if (type == RESP_STRING && memcmp(text + len, "\r\n", 2) != 0) {
        c->refused = "a string is longer than announced";
        return NULL;
    }
    return made(c, fits(c, r, len) && resp_put_text(r, type, text, len));
}

static void *read_array(const redisReadTask *task, int elements)
{
    struct redisconn *c;
    struct resp_reply *r = receiving(task, &c);
    /* Memory is taken when the elements arrive: a server can announce any number. */
    return made(c, fits(c, r, 0) && resp_put_array(r, (uint64_t)elements));
}

static void *read_integer(const redisReadTask *task, long long v)
{
    struct redisconn *c;
    struct resp_reply *r = receiving(task, &c);
    return made(c, fits(c, r, 0) && resp_put_integer(r, v));
}

static void *read_nil(const redisReadTask *task)
{
    struct redisconn *c;
    struct resp_reply *r = receiving(task, &c);
    return made(c, fits(c, r, 0) && resp_put_nil(r));
}

static void free_nothing(void *object)
{
    (void)object;
}

static const redisReplyObjectFunctions reply_functions = {
    .createString = read_string,
    .createArray = read_array,
    .createInteger = read_integer,
    .createNil = read_nil,
    .freeObject = free_nothing,
};

/* ---- life ---- */

static const struct redisconn_events no_events = {NULL, NULL};

struct redisconn *redisconn_new(int fd, struct redis_target *target, struct error *e)
{
    struct redisconn *c = calloc(1, sizeof *c);
    struct redis_transport transport;
    if (!redis_transport_open(&transport, fd, target, e)) {
        redis_transport_close(&transport);
        free(c);
        return NULL;
    }
    /* hiredis takes the functions without const, and only reads them. */
    redisReader *reader =
        c ? redisReaderCreateWithFunctions((redisReplyObjectFunctions *)&reply_functions) : NULL;
    if (!reader) {
        redis_transport_close(&transport);
        free(c);
        error_set(e, ERROR_CONNECT, "not enough memory");
        return NULL;
    }
    c->transport = transport;
    c->target = redis_target_ref(target);
    c->reader = reader;
    c->reader->privdata = c;
    c->reader->maxbuf = KEEP_READER;
    c->state = REDISCONN_HANDSHAKE;
    c->events = &no_events;
    resp_reply_init(&c->push);
    return c;
}

void redisconn_free(struct redisconn *c)
{
    if (!c)
        return;
    redis_transport_close(&c->transport);
    redisReaderFree(c->reader);
    redis_queue_free(&c->queue);
    resp_reply_clear(&c->push);
    redis_target_unref(c->target);
    error_clear(&c->error);
    free(c);
}

void redisconn_listen(struct redisconn *c, const struct redisconn_events *events, void *data)
{
    c->events = events ? events : &no_events;
    c->data = data;
}

int redisconn_fd(const struct redisconn *c)
{
    return c->transport.fd;
}

enum redisconn_state redisconn_state(const struct redisconn *c)
{
    return c->state;
}

const struct error *redisconn_error(const struct redisconn *c)
{
    return &c->error;
}

const struct redis_target *redisconn_target(const struct redisconn *c)
{
    return c->target;
}

struct redis_queue *redisconn_queue(struct redisconn *c)
{
    return &c->queue;
}

uint32_t redisconn_unanswered(const struct redisconn *c)
{
    return c->unanswered;
}

uint64_t redisconn_received(const struct redisconn *c)
{
    return c->received;
}

bool redisconn_is_drained(const struct redisconn *c)
{
    return c->state == REDISCONN_OPEN && !c->queue.head && redis_queue_pending(&c->queue) == 0 &&
           !c->sent_head && c->reader->len == c->reader->pos && c->push.len == 0;
}

bool redisconn_is_idle(struct redisconn *c)
{
    return redisconn_is_drained(c) && redis_transport_quiet(&c->transport);
}

bool redisconn_is_awaited(const struct redisconn *c)
{
    for (const struct redis_call *call = c->sent_head; call; call = call->next)
        if (!call->dropped)
            return true;
    return false;
}

/* ---- failing: the one place that changes the state to FAILED ---- */

static bool failed(struct redisconn *c, enum error_kind kind, const char *what, const char *hint)
{
    struct error *e = &c->error;
    if (c->state != REDISCONN_FAILED) {
        error_set(e, kind, "redis at %s: %s", c->target->label, what);
        error_set_field(e, ERROR_HINT, hint);
        c->state = REDISCONN_FAILED;
    }
    return false;
}

static bool protocol_failed(struct redisconn *c, const char *what)
{
    return failed(c, ERROR_PROTOCOL, what,
                  c->target->tls ? NULL
                                 : "is it a Redis server that listens there, and does it use TLS "
                                   "(then rediss://)?");
}

static bool io_failed(struct redisconn *c, enum redis_io io, struct error *e)
{
    if (io == REDIS_IO_CLOSED && c->state == REDISCONN_HANDSHAKE)
        failed(c, ERROR_CONNECT, "the server closed the connection during the TLS handshake",
               "does it speak TLS on this port (if not, use redis://)?");
    else if (io == REDIS_IO_CLOSED)
        failed(c, ERROR_CONNECT, "the server closed the connection",
               "it may have stopped, restarted, or ended this client: its log says why");
    else
        failed(c, ERROR_CONNECT, e->message, e->field[ERROR_HINT]);
    error_clear(e);
    return false;
}

/* ---- receiving ---- */

static void finish_call(struct redisconn *c)
{
    struct redis_call *call = c->sent_head;
    c->sent_head = call->next;
    if (!c->sent_head)
        c->sent_tail = NULL;
    c->unanswered--;
    call->next = NULL;
    call->state = REDIS_CALL_DONE;
    c->events->on_done(call, c->data);
}

static bool unasked(struct redisconn *c)
{
    if (c->events->on_push) {
        c->events->on_push(&c->push, c->data);
        resp_reply_clear(&c->push);
        return true;
    }
    /* A server with too many clients sends an error without a request and closes the connection. */
    struct resp_cursor cur = resp_cursor(&c->push);
    struct resp_item item;
    if (!resp_next(&cur, &item) || item.type != RESP_ERROR)
        return protocol_failed(c, "the server sent a reply without a request");
    char text[256];
    size_t len = item.size < sizeof text - 1 ? (size_t)item.size : sizeof text - 1;
    memcpy(text, item.text, len);
    text[len] = '\0';
    return failed(c, ERROR_CONNECT, text, NULL);
}

/* The number between `p` and the end of its line, or a greater one than any limit. */
static uint64_t announced(const char *p, const char *end)
{
    uint64_t n = 0;
    for (; p < end && ascii_is_digit(*p) && n <= RESP_MAX_STRING; p++)
        n = n * 10 + (uint64_t)(*p - '0');
    return n;
}

/* The reader waits for more bytes and has no limits: fail when the reply cannot end within ours. */
static bool check_partial(struct redisconn *c)
{
    const redisReader *r = c->reader;
    size_t have = r->len - r->pos;
    if (r->ridx < 0 || have == 0)
        return true;
    int type = r->rstack[r->ridx].type;
    const char *p = r->buf + r->pos;
    if (type != REDIS_REPLY_STRING)
        return have <= MAX_LINE || protocol_failed(c, "a line without an end");
    const char *end = memchr(p, '\n', have < MAX_LENGTH_LINE ? have : MAX_LENGTH_LINE);
    if (!end)
        return have < MAX_LENGTH_LINE || protocol_failed(c, "a length without an end");
    if (announced(p, end) > RESP_MAX_STRING)
        return protocol_failed(c, "a string of more than 512 MiB was announced");
    return true;
}

static bool parse(struct redisconn *c)
{
    for (;;) {
        void *object = NULL;
        if (redisReaderGetReply(c->reader, &object) != REDIS_OK)
            return protocol_failed(c, c->refused ? c->refused : c->reader->errstr);
        if (!object)
            return check_partial(c);
        if (c->sent_head) {
            if (--c->sent_head->expect == 0)
                finish_call(c);
        } else if (!unasked(c)) {
            return false;
        }
    }
}

static bool receive(struct redisconn *c)
{
    char chunk[READ_CHUNK];
    for (int i = 0; i < READS_PER_STEP || redis_transport_pending(&c->transport); i++) {
        struct error e = {0};
        size_t n;
        enum redis_io io = redis_transport_read(&c->transport, chunk, sizeof chunk, &n, &e);
        if (io == REDIS_IO_AGAIN)
            return true;
        if (io != REDIS_IO_OK)
            return io_failed(c, io, &e);
        c->received += n;
        if (redisReaderFeed(c->reader, chunk, n) != REDIS_OK)
            return failed(c, ERROR_CONNECT, "not enough memory for a reply", NULL);
        if (!parse(c))
            return false;
        /* After a short read a socket is empty; with TLS a read returns at most one record. */
        if (n < sizeof chunk && !c->transport.tls)
            return true;
    }
    return true;
}

/* ---- sending ---- */

static void call_sent(struct redis_call *call, void *data)
{
    struct redisconn *c = data;
    if (call->expect == 0) {
        call->state = REDIS_CALL_DONE;
        c->events->on_done(call, c->data);
        return;
    }
    if (c->sent_tail)
        c->sent_tail->next = call;
    else
        c->sent_head = call;
    c->sent_tail = call;
    c->unanswered++;
}

static bool transmit(struct redisconn *c)
{
    struct redis_queue *q = &c->queue;
    if (q->dropped)
        redis_queue_compact(q, c->events->on_done, c->data);
    while (redis_queue_pending(q) > 0) {
        struct error e = {0};
        size_t n;
        enum redis_io io =
            redis_transport_write(&c->transport, q->out.data + q->written, redis_queue_pending(q), &n, &e);
        if (io == REDIS_IO_AGAIN)
            return true;
        if (io != REDIS_IO_OK) {
            /* What the server sent before it closed the connection explains more than the broken pipe. */
            if (io == REDIS_IO_CLOSED && !receive(c)) {
                error_clear(&e);
                return false;
            }
            return io_failed(c, io, &e);
        }
        redis_queue_wrote(q, n, call_sent, c);
    }
    return true;
}

/* ---- step ---- */

static bool handshake(struct redisconn *c)
{
    struct error e = {0};
    enum redis_io io = redis_transport_handshake(&c->transport, &e);
    if (io == REDIS_IO_OK)
        c->state = REDISCONN_OPEN;
    else if (io != REDIS_IO_AGAIN)
        return io_failed(c, io, &e);
    return true;
}

unsigned redisconn_step(struct redisconn *c, unsigned ready)
{
    if (c->state == REDISCONN_HANDSHAKE && !handshake(c))
        return REDISCONN_BROKEN;
    if (c->state == REDISCONN_HANDSHAKE)
        return c->transport.want;
    if (c->state == REDISCONN_FAILED)
        return REDISCONN_BROKEN;
    c->transport.want = 0;
    if ((ready & REDIS_IO_READ) && !receive(c))
        return REDISCONN_BROKEN;
    if (!transmit(c))
        return REDISCONN_BROKEN;
    unsigned interest = REDIS_IO_READ | c->transport.want;
    if (redis_queue_pending(&c->queue) > 0)
        interest |= REDIS_IO_WRITE;
    else if (!c->sent_head)
        interest |= REDISCONN_DONE;
    return interest;
}

struct redis_call *redisconn_pop_sent(struct redisconn *c)
{
    struct redis_call *call = c->sent_head;
    if (!call)
        return NULL;
    c->sent_head = call->next;
    if (!c->sent_head)
        c->sent_tail = NULL;
    c->unanswered--;
    call->next = NULL;
    call->state = REDIS_CALL_DONE;
    return call;
}
