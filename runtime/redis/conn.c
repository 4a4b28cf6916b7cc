#include "redis/conn.h"
#include "redis/codes.h"
#include "redis/reader.h"

#include <stdlib.h>
#include <string.h>

enum {
    READ_CHUNK = 32 * 1024,
    READS_PER_STEP = 64, /* then other connections get a turn; the loop reports the remaining data again */
};

struct redisconn {
    struct redis_transport transport;
    struct redis_target *target;
    struct redis_reader reader;
    struct redis_queue queue;
    struct redis_call *sent_head;
    struct redis_call *sent_tail;
    uint32_t unanswered;
    enum redisconn_state state;
    bool closed; /* it failed because the server closed it */
    uint64_t received;
    uint64_t answered;
    struct resp_reply push;
    const struct redisconn_events *events;
    void *data;
    struct error error;
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
    if (!c || !redis_reader_open(&c->reader, &c->push)) {
        redis_transport_close(&transport);
        free(c);
        error_set(e, ERROR_CONNECT, "not enough memory");
        return NULL;
    }
    c->transport = transport;
    c->target = redis_target_ref(target);
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
    redis_reader_close(&c->reader);
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

uint64_t redisconn_answered(const struct redisconn *c)
{
    return c->answered;
}

struct redis_call *redisconn_oldest(const struct redisconn *c)
{
    return c->sent_head;
}

struct certificates redisconn_certificates(const struct redisconn *c)
{
    return redis_transport_certificates(&c->transport);
}

uint64_t redisconn_received(const struct redisconn *c)
{
    return c->received;
}

bool redisconn_was_closed(const struct redisconn *c)
{
    return c->closed;
}

bool redisconn_has_news(struct redisconn *c)
{
    return redis_transport_pending(&c->transport) || !redis_transport_quiet(&c->transport);
}

bool redisconn_is_drained(const struct redisconn *c)
{
    return c->state == REDISCONN_OPEN && !c->queue.head && redis_queue_pending(&c->queue) == 0 &&
           !c->sent_head && redis_reader_is_empty(&c->reader) && c->push.len == 0;
}

bool redisconn_is_idle(struct redisconn *c)
{
    return redisconn_is_drained(c) && redis_transport_quiet(&c->transport);
}

bool redisconn_is_cut(const struct redisconn *c)
{
    return c->queue.cut;
}

static bool is_awaited(const struct redis_call *list)
{
    while (list && (list->dropped || list->background))
        list = list->next;
    return list;
}

bool redisconn_is_awaited(const struct redisconn *c)
{
    return is_awaited(c->sent_head) || is_awaited(c->queue.head);
}

static bool has_background(const struct redis_call *list)
{
    while (list && !list->background)
        list = list->next;
    return list;
}

bool redisconn_has_background(const struct redisconn *c)
{
    return has_background(c->sent_head) || has_background(c->queue.head);
}

bool redisconn_has_sent(const struct redisconn *c, const struct redis_call *call)
{
    for (const struct redis_call *at = c->sent_head; at; at = at->next)
        if (at == call)
            return true;
    return false;
}

/* ---- failing: the only place that changes the state to FAILED ---- */

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

void redisconn_give_up(struct redisconn *c, const struct error *why)
{
    if (c->state == REDISCONN_FAILED)
        return;
    error_copy(&c->error, why);
    c->state = REDISCONN_FAILED;
}

static bool protocol_failed(struct redisconn *c, const char *what)
{
    const char *hint = NULL;
    if (c->reader.too_large)
        hint = "ask for less at a time: a part of the list or range (LRANGE, XRANGE ... COUNT), or "
               "SCAN, HSCAN, SSCAN or ZSCAN";
    else if (!c->target->tls)
        hint = "is it a Redis server that listens there, and does it use TLS (then rediss://)?";
    return failed(c, ERROR_PROTOCOL, what, hint);
}

static bool io_failed(struct redisconn *c, enum redis_io io, struct error *e)
{
    c->closed = io == REDIS_IO_CLOSED;
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
    c->answered++;
    call->next = NULL;
    call->state = REDIS_CALL_DONE;
    c->events->on_done(call, c->data);
}

/* Handles an unsolicited message (a RESP3 push). Without a subscriber it is dropped. */
static void pushed(struct redisconn *c)
{
    if (c->events->on_push)
        c->events->on_push(&c->push, c->data);
    resp_reply_clear(&c->push);
}

static bool unasked(struct redisconn *c)
{
    if (c->events->on_push) {
        pushed(c);
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
    failed(c, ERROR_CONNECT, text, NULL);
    redis_code_describe(&c->error, text, len);
    return false;
}

/* Passes short replies to their calls; returns how many bytes they took. */
static size_t take_short(struct redisconn *c, const char *data, size_t len)
{
    size_t at = 0;
    while (c->sent_head) {
        size_t n = redis_reader_take(&c->reader, &c->sent_head->reply, data + at, len - at);
        if (n == 0)
            break;
        at += n;
        if (--c->sent_head->expect == 0)
            finish_call(c);
    }
    return at;
}

static bool parse(struct redisconn *c)
{
    for (;;) {
        struct resp_reply *to = c->sent_head ? &c->sent_head->reply : &c->push;
        switch (redis_reader_next(&c->reader, to)) {
        case REDIS_READ_MORE:
            return true;
        case REDIS_READ_REFUSED:
            return protocol_failed(c, redis_reader_refusal(&c->reader));
        case REDIS_READ_PUSH:
            pushed(c);
            break;
        case REDIS_READ_REPLY:
            if (c->sent_head) {
                if (--c->sent_head->expect == 0)
                    finish_call(c);
            } else if (!unasked(c)) {
                return false;
            }
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
        size_t taken = take_short(c, chunk, n);
        if (taken < n && !redis_reader_feed(&c->reader, chunk + taken, n - taken))
            return failed(c, ERROR_CONNECT, "not enough memory for a reply", NULL);
        if (taken < n && !parse(c))
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
        if (io == REDIS_IO_AGAIN) {
            redis_queue_took(q, redis_transport_taken(&c->transport));
            return true;
        }
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

bool redisconn_move_unsent(struct redisconn *c, struct redis_queue *to)
{
    struct redis_queue *q = &c->queue;
    if (c->state != REDISCONN_FAILED && q->start > q->written)
        redis_queue_settle(q, call_sent, c);
    return redis_queue_move(to, q);
}

bool redisconn_move_rest(struct redisconn *c, struct redis_queue *to)
{
    return redis_queue_move_rest(to, &c->queue);
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
