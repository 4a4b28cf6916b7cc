#include "redis/reader.h"
#include "base/number.h"

#include <hiredis/read.h>
#include <string.h>

enum {
    KEEP_BUFFER = 1024 * 1024, /* the parser gives back a larger buffer once it is empty */
    MAX_LINE = 1024 * 1024,    /* of a status or error reply */
    MAX_LENGTH_LINE = 32,      /* of the length before a string or an array */
};

/* ---- callbacks of the parser: each appends a value to the tape ---- */

static struct redis_reader *reader_of(const redisReadTask *task)
{
    return task->privdata;
}

/* The parser expects an object, NULL means failure. The tape has no objects: any pointer will do. */
static void *made(struct redis_reader *r, bool ok)
{
    if (!ok && !r->refused)
        r->refused = "not enough memory for a reply";
    return ok ? r : NULL;
}

static bool fits(struct redis_reader *r, size_t more)
{
    if (r->reply->len + more <= REDIS_READER_MAX_REPLY)
        return true;
    r->refused = "the reply is too large";
    return false;
}

static void *read_string(const redisReadTask *task, char *text, size_t len)
{
    struct redis_reader *r = reader_of(task);
    enum resp_type type = task->type == REDIS_REPLY_STATUS  ? RESP_STATUS
                          : task->type == REDIS_REPLY_ERROR ? RESP_ERROR
                                                            : RESP_STRING;
    /* The parser cuts the string at the announced length and does not check what follows. */
    if (type == RESP_STRING && memcmp(text + len, "\r\n", 2) != 0) {
        r->refused = "a string is longer than announced";
        return NULL;
    }
    return made(r, fits(r, len) && resp_put_text(r->reply, type, text, len));
}

static void *read_array(const redisReadTask *task, int elements)
{
    struct redis_reader *r = reader_of(task);
    /* Memory is taken when the elements arrive: a server can announce any number. */
    return made(r, fits(r, 0) && resp_put_array(r->reply, (uint64_t)elements));
}

static void *read_integer(const redisReadTask *task, long long v)
{
    struct redis_reader *r = reader_of(task);
    return made(r, fits(r, 0) && resp_put_integer(r->reply, v));
}

static void *read_nil(const redisReadTask *task)
{
    struct redis_reader *r = reader_of(task);
    return made(r, fits(r, 0) && resp_put_nil(r->reply));
}

static void free_nothing(void *object)
{
    (void)object;
}

static const redisReplyObjectFunctions functions = {
    .createString = read_string,
    .createArray = read_array,
    .createInteger = read_integer,
    .createNil = read_nil,
    .freeObject = free_nothing,
};

/* ---- life ---- */

bool redis_reader_open(struct redis_reader *r)
{
    *r = (struct redis_reader){0};
    /* hiredis takes the functions without const, and only reads them. */
    r->parser = redisReaderCreateWithFunctions((redisReplyObjectFunctions *)&functions);
    if (!r->parser)
        return false;
    r->parser->privdata = r;
    r->parser->maxbuf = KEEP_BUFFER;
    return true;
}

void redis_reader_close(struct redis_reader *r)
{
    if (r->parser)
        redisReaderFree(r->parser);
    r->parser = NULL;
}

/* ---- reading ---- */

bool redis_reader_feed(struct redis_reader *r, const char *data, size_t len)
{
    return redisReaderFeed(r->parser, data, len) == REDIS_OK;
}

/* The number between `p` and the end of its line, or a greater one than any limit. */
static uint64_t announced(const char *p, const char *end)
{
    uint64_t n = 0;
    for (; p < end && ascii_is_digit(*p) && n <= RESP_MAX_STRING; p++)
        n = n * 10 + (uint64_t)(*p - '0');
    return n;
}

/* The parser waits for more bytes and has no limits: why the reply cannot end within ours, or NULL. */
static const char *cannot_end(const redisReader *p)
{
    size_t have = p->len - p->pos;
    if (p->ridx < 0 || have == 0)
        return NULL;
    const char *text = p->buf + p->pos;
    if (p->rstack[p->ridx].type != REDIS_REPLY_STRING)
        return have <= MAX_LINE ? NULL : "a line without an end";
    const char *end = memchr(text, '\n', have < MAX_LENGTH_LINE ? have : MAX_LENGTH_LINE);
    if (!end)
        return have < MAX_LENGTH_LINE ? NULL : "a length without an end";
    if (announced(text, end) > RESP_MAX_STRING)
        return "a string of more than 512 MiB was announced";
    return NULL;
}

bool redis_reader_is_empty(const struct redis_reader *r)
{
    return r->parser->len == r->parser->pos;
}

enum redis_read redis_reader_next(struct redis_reader *r, struct resp_reply *to)
{
    void *object = NULL;
    if (redis_reader_is_empty(r)) /* as after most replies: the parser would look for a type byte */
        return REDIS_READ_MORE;
    r->reply = to;
    if (redisReaderGetReply(r->parser, &object) != REDIS_OK)
        return REDIS_READ_REFUSED;
    if (object)
        return REDIS_READ_REPLY;
    r->refused = cannot_end(r->parser);
    return r->refused ? REDIS_READ_REFUSED : REDIS_READ_MORE;
}

const char *redis_reader_refusal(const struct redis_reader *r)
{
    return r->refused ? r->refused : r->parser->errstr;
}
