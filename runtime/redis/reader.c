#include "redis/reader.h"
#include "base/number.h"

#include <hiredis/hiredis.h>
#include <string.h>

enum {
    KEEP_BUFFER = 1024 * 1024, /* the parser frees a larger buffer once it is empty */
    MAX_LINE = 1024 * 1024,    /* of a status or error reply */
    MAX_NUMBER = 32,           /* of a number, and of the length before a string or an array */
    LAST_LEVEL = 7,            /* the last of the parser's levels that an array can use */
};

/* ---- what differs between the versions of hiredis ---- */

#if HIREDIS_MAJOR >= 1

typedef size_t element_count;

static redisReadTask *level(const redisReader *p, int i)
{
    return p->task[i];
}

static bool is_push(int type)
{
    return type == REDIS_REPLY_PUSH;
}

static bool is_attribute(int type)
{
    return type == REDIS_REPLY_ATTR;
}

static bool is_bulk(int type)
{
    return type == REDIS_REPLY_STRING || type == REDIS_REPLY_VERB;
}

/* A verbatim string begins with its format: "txt:". */
static size_t format_size(int type)
{
    return type == REDIS_REPLY_VERB ? 4 : 0;
}

static bool is_short_line(int type)
{
    return type != REDIS_REPLY_STATUS && type != REDIS_REPLY_ERROR && type != REDIS_REPLY_BIGNUM &&
           type != REDIS_REPLY_DOUBLE;
}

#else

typedef int element_count;

static redisReadTask *level(redisReader *p, int i)
{
    return &p->rstack[i];
}

static bool is_push(int type)
{
    (void)type;
    return false;
}

static bool is_attribute(int type)
{
    (void)type;
    return false;
}

static bool is_bulk(int type)
{
    return type == REDIS_REPLY_STRING;
}

static size_t format_size(int type)
{
    (void)type;
    return 0;
}

static bool is_short_line(int type)
{
    return type != REDIS_REPLY_STATUS && type != REDIS_REPLY_ERROR;
}

#endif

bool redis_reader_knows_resp3(void)
{
    return HIREDIS_MAJOR >= 1;
}

/* ---- callbacks of the parser: each appends a value to the tape ---- */

static struct redis_reader *reader_of(const redisReadTask *task)
{
    return task->privdata;
}

/* The parser expects an object; NULL means failure. The tape has no objects, so any pointer will do. The
 * address of attribute_read says that an attribute was read, and the reply itself has still to follow. */
static const char attribute_read;

static void *made(struct redis_reader *r, bool ok)
{
    if (!ok && !r->refused)
        r->refused = "not enough memory for a reply";
    return ok ? r : NULL;
}

static const char *too_large(struct redis_reader *r, const char *what)
{
    r->too_large = true;
    r->refused = what;
    return what;
}

/* True when a value of this size fits. */
static bool fits(struct redis_reader *r, uint64_t bytes)
{
    if (r->reply->len + RESP_VALUE_SIZE + bytes <= REDIS_READER_MAX_REPLY)
        return true;
    too_large(r, "the reply is larger than 1 GiB");
    return false;
}

static void *read_string(const redisReadTask *task, char *text, size_t len)
{
    struct redis_reader *r = reader_of(task);
    enum resp_type type = task->type == REDIS_REPLY_STATUS  ? RESP_STATUS
                          : task->type == REDIS_REPLY_ERROR ? RESP_ERROR
                                                            : RESP_STRING;
    /* The parser cuts the string at the announced length and does not check what follows. */
    if (is_bulk(task->type) && memcmp(text + len, "\r\n", 2) != 0) {
        r->refused = "a string is longer than announced";
        return NULL;
    }
    size_t format = format_size(task->type);
    return made(r, fits(r, len) && resp_put_text(r->reply, type, text + format, len - format));
}

/* The number of announced values that have not begun, on all levels from the root to the current one. */
static uint64_t still_to_come(redisReader *p)
{
    uint64_t n = 0;
    for (int i = 1; i <= p->ridx; i++)
        n += (uint64_t)(level(p, i - 1)->elements - 1 - level(p, i)->idx);
    return n;
}

/* Memory is allocated when the elements arrive, because a server can announce any number. A number that
 * cannot fit is refused at once. */
static bool elements_fit(struct redis_reader *r, uint64_t elements)
{
    if (!fits(r, 0))
        return false;
    uint64_t room = (REDIS_READER_MAX_REPLY - RESP_VALUE_SIZE - r->reply->len) / RESP_VALUE_SIZE;
    if (elements <= room && still_to_come(r->parser) <= room - elements)
        return true;
    too_large(r, "more elements were announced than fit in a reply of 1 GiB");
    return false;
}

/*
 * hiredis has one level for each open array: 0.14 has nine and refuses more; 1.x adds levels as needed, to
 * any depth that a server chooses. The tape is flat, and a level only counts the elements that have still to
 * come. So all arrays below the last level use the last level, too: the parser, about to go one level down,
 * stays on it, and finds the new elements added to those that were left.
 */
static void stay_on_last_level(redisReader *p, element_count elements)
{
    if (p->ridx < LAST_LEVEL || elements == 0)
        return;
    /* The parser sets the index on the last level to 0. */
    redisReadTask *parent = level(p, LAST_LEVEL - 1);
    parent->elements += (int)elements - 1 - level(p, LAST_LEVEL)->idx;
    p->ridx = LAST_LEVEL - 1;
}

static void *read_attribute(struct redis_reader *r, element_count values)
{
    redisReader *p = r->parser;
    if (p->ridx > 0)
        level(p, p->ridx - 1)->elements++; /* an attribute precedes an element and is none itself */
    if (!made(r, elements_fit(r, (uint64_t)values) && resp_put_attribute(r->reply, (uint64_t)values)))
        return NULL;
    stay_on_last_level(p, values);
    return (void *)&attribute_read;
}

/* Also for maps, with a name and a value for each pair. */
static void *read_array(const redisReadTask *task, element_count elements)
{
    struct redis_reader *r = reader_of(task);
    if (is_attribute(task->type))
        return read_attribute(r, elements);
    if (is_push(task->type) && r->parser->ridx == 0) {
        r->pushing = true;
        r->reply = r->push;
    }
    if (!made(r, elements_fit(r, (uint64_t)elements) && resp_put_array(r->reply, (uint64_t)elements)))
        return NULL;
    stay_on_last_level(r->parser, elements);
    return r;
}

static void *read_integer(const redisReadTask *task, long long v)
{
    struct redis_reader *r = reader_of(task);
    return made(r, fits(r, 0) && resp_put_integer(r->reply, v));
}

static void *read_nil(const redisReadTask *task)
{
    struct redis_reader *r = reader_of(task);
    if (is_push(task->type) || is_attribute(task->type)) {
        r->refused = "a push or an attribute without elements";
        return NULL;
    }
    return made(r, fits(r, 0) && resp_put_nil(r->reply));
}

#if HIREDIS_MAJOR >= 1

/* Keeps the text, as in RESP2. */
static void *read_double(const redisReadTask *task, double v, char *text, size_t len)
{
    struct redis_reader *r = reader_of(task);
    (void)v;
    return made(r, fits(r, len) && resp_put_text(r->reply, RESP_STRING, text, len));
}

static void *read_bool(const redisReadTask *task, int v)
{
    return read_integer(task, v ? 1 : 0);
}

#endif

static void free_nothing(void *object)
{
    (void)object;
}

static const redisReplyObjectFunctions functions = {
    .createString = read_string,
    .createArray = read_array,
    .createInteger = read_integer,
    .createNil = read_nil,
#if HIREDIS_MAJOR >= 1
    .createDouble = read_double,
    .createBool = read_bool,
#endif
    .freeObject = free_nothing,
};

/* ---- life ---- */

bool redis_reader_open(struct redis_reader *r, struct resp_reply *push)
{
    *r = (struct redis_reader){.push = push};
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

bool redis_reader_is_empty(const struct redis_reader *r)
{
    return r->parser->len == r->parser->pos;
}

size_t redis_reader_take(struct redis_reader *r, struct resp_reply *to, const char *data, size_t len)
{
    /* Below 0: the parser is between two replies. */
    if (r->parser->ridx >= 0 || !redis_reader_is_empty(r) || to->len + len > REDIS_READER_MAX_REPLY / 2)
        return 0;
    return resp_take_short(to, data, len);
}

/* The number between `p` and the end of its line; above all limits when it is too large. */
static uint64_t announced(const char *p, const char *end)
{
    uint64_t n = 0;
    for (; p < end && ascii_is_digit(*p) && n <= RESP_MAX_STRING; p++)
        n = n * 10 + (uint64_t)(*p - '0');
    return n;
}

/* Why a line of this type cannot end within our limits, or NULL. */
static const char *endless(int type, size_t have)
{
    if (!is_short_line(type))
        return have <= MAX_LINE ? NULL : "a line without an end";
    if (have < MAX_NUMBER)
        return NULL;
    return type == REDIS_REPLY_INTEGER ? "a number without an end" : "a length without an end";
}

/* The parser waits for more bytes without limits. Returns why the reply cannot end within our limits, or
 * NULL. */
static const char *cannot_end(struct redis_reader *r)
{
    redisReader *p = r->parser;
    size_t have = p->len - p->pos;
    if (p->ridx < 0 || have == 0)
        return NULL;
    const char *text = p->buf + p->pos;
    int type = level(p, p->ridx)->type;
    const char *end = NULL;
    if (is_bulk(type))
        end = memchr(text, '\n', have < MAX_NUMBER ? have : MAX_NUMBER);
    if (!end)
        return endless(type, have);
    uint64_t size = announced(text, end);
    if (size > RESP_MAX_STRING)
        return too_large(r, "a string of more than 512 MiB was announced");
    if (r->reply->len + RESP_VALUE_SIZE + size > REDIS_READER_MAX_REPLY)
        return too_large(r, "the reply is larger than 1 GiB");
    return NULL;
}

enum redis_read redis_reader_next(struct redis_reader *r, struct resp_reply *to)
{
    while (!redis_reader_is_empty(r)) { /* without bytes the parser would only look for a type */
        void *object = NULL;
        r->reply = r->pushing ? r->push : to;
        if (redisReaderGetReply(r->parser, &object) != REDIS_OK)
            return REDIS_READ_REFUSED;
        if (!object) {
            r->refused = cannot_end(r);
            return r->refused ? REDIS_READ_REFUSED : REDIS_READ_MORE;
        }
        if (object == &attribute_read)
            continue;
        if (!r->pushing)
            return REDIS_READ_REPLY;
        r->pushing = false;
        return REDIS_READ_PUSH;
    }
    return REDIS_READ_MORE;
}

const char *redis_reader_refusal(const struct redis_reader *r)
{
    return r->refused ? r->refused : r->parser->errstr;
}
