/*
 * For libFuzzer (make fuzz): a PostgreSQL connection, its users and its server. The input determines the
 * requests, what is abandoned or cancelled, what the server sends and in which pieces, and when the machine
 * is stepped.
 *
 * The server is correct at first: it answers each request in order, each statement with the statement's own
 * number. At some point it can send any message or bytes; from then on it is never correct again. In any case
 * the machine's state is consistent after every step; each owner is settled once, in order, and never after
 * it was abandoned; a correct reply up to its sync gives that result; and nobody gets the number of another.
 */
#include "pg_asked.h"

#include <sanitizer/lsan_interface.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { UNITS = 256, TEXTS = 3, MOST_STEPS = 2000, MOST_STATEMENTS = 6, BIG = 20000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct world {
    const uint8_t *data;
    size_t size;
    struct pg_machine m;
    struct buf out; /* what the server has not sent yet */
    unsigned want;
    unsigned n;       /* requests so far */
    unsigned serving; /* the first request that was not served */
    unsigned last;    /* the last settled request, + 1 */
    struct pg_asked *alone;
    bool building; /* a batch */
    bool honest;
    bool may_lie;
    bool little; /* the socket takes little, and requests can be big */
    bool hung_up;
    struct pg_asked unit[UNITS];
};

static struct pg_script peer;
static const char *const texts[TEXTS] = {"select $1", "insert into t values ($1)",
                                         "/* c */ update t set i = $1"};

static unsigned next(struct world *w)
{
    if (w->size == 0)
        return 0;
    w->size--;
    return *w->data++;
}

/* ---- results ---- */

static void settled(void *data, void *owner, PGresult *r, struct error *e)
{
    struct world *w = data;
    struct pg_asked *u = owner;
    pg_must(!u->told && !u->gone, "told twice, or after it was abandoned");
    pg_must(u->number >= w->last, "told out of order");
    pg_must((r == NULL) == (e != NULL), "neither a result nor an error, or both");
    w->last = u->number + 1;
    u->told = true;
    pg_asked_check_end(u, &w->m, r, e, w->honest);
    PQclear(r);
}

static void alone_over(struct world *w)
{
    struct pg_asked *u = w->alone;
    struct pg_machine *m = &w->m;
    w->alone = NULL;
    u->told = true;
    w->last = u->number + 1;
    pg_must(!error_is_set(&m->error) || !m->result, "a result beside an error");
    if (!u->gone && m->state != PG_CLOSED)
        pg_asked_check_end(u, m, m->result, &m->error, w->honest);
    for (size_t i = 0; m->batch.list && i < m->batch.n; i++)
        pg_asked_check_rows(u, m->batch.list[i]);
}

/* ---- consistency ---- */

static void check_books(struct world *w)
{
    const char *wrong = pg_script_check(&w->m);
    pg_must(!wrong, wrong);
    unsigned awaited = 0;
    unsigned open = 0;
    for (unsigned i = 0; i < w->n; i++) {
        awaited += !w->unit[i].told && !w->unit[i].gone;
        open += !w->unit[i].told;
    }
    if (w->alone && w->m.owed == 0 && !w->building)
        alone_over(w);
    else if (w->m.shared || w->m.state == PG_IDLE)
        pg_must(w->m.owed <= open && w->m.owed >= awaited, "owed is not what is unsettled");
    pg_must(!w->alone || w->m.owed == 1 || w->building, "more is owed than one statement");
}

static void step(struct world *w, unsigned ready)
{
    w->want = pg_machine_step(&w->m, ready);
    pg_must(w->want != 0, "a step that wants nothing");
    if (w->want & PG_ROW) {
        pg_must(w->alone && w->m.result, "a row of nobody");
        PGresult *r = pg_machine_take(&w->m);
        pg_asked_check_rows(w->alone, r);
        PQclear(r);
    }
    check_books(w);
}

static unsigned readiness(const struct world *w)
{
    return pg_script_readiness(&w->m, PG_WANT_READ | (w->m.flushing ? PG_WANT_WRITE : 0));
}

static void turn(struct world *w)
{
    unsigned ready;
    for (int i = 0; (ready = readiness(w)) || w->want & PG_ROW; i++) {
        pg_must(i < MOST_STEPS, "steps without end");
        step(w, ready);
        if (w->m.state == PG_COPY_OUT || w->m.state == PG_COPY_IN)
            return;
    }
}

/* ---- requests ---- */

static struct pg_asked *new_unit(struct world *w, bool shared)
{
    struct pg_asked *u = &w->unit[w->n];
    *u = (struct pg_asked){.number = w->n, .shared = shared};
    w->n++;
    return u;
}

static struct pg_params params(const struct world *w, unsigned arg)
{
    static char big[BIG];
    static const char *values[1];
    static const int lengths[1], formats[1];
    memset(big, 'x', sizeof big - 1);
    values[0] = w->little && arg & 8 ? big : "v";
    return (struct pg_params){.n = 1, .values = values, .lengths = lengths, .formats = formats};
}

/* The started group is alone. */
static void begun(struct world *w, struct pg_asked *u, bool ok)
{
    if (!ok) {
        pg_must(error_is_set(&w->m.error) && w->m.error.outcome == OUTCOME_NOT_SENT, "refused, and sent");
        w->n--;
        return;
    }
    pg_must(!w->alone, "two at once");
    w->alone = u;
}

static bool may_begin(const struct world *w)
{
    return w->n < UNITS - MOST_STATEMENTS && !w->building;
}

static void ask_query(struct world *w, unsigned arg)
{
    struct pg_params p = params(w, arg);
    const char *sql = texts[arg % TEXTS];
    struct pg_asked *u = new_unit(w, false);
    p.once = arg & 64;
    bool ok = pg_machine_query(&w->m, sql, strlen(sql), &p);
    if (ok && w->m.state == PG_PIPE) {
        if (w->m.ahead == 2)
            pg_asked_add(u, "1 2 n C:DEALLOCATE");
        pg_asked_add(u, "1");
    }
    pg_asked_add(u, arg & 32 ? "2 n C:INSERT_0_1 Z" : "2 T D:n%u C:SELECT_1 Z");
    begun(w, u, ok);
    if (ok && arg & 16)
        pg_machine_stream(&w->m);
}

static void ask_describe(struct world *w, unsigned arg)
{
    struct pg_asked *u = new_unit(w, false);
    pg_asked_add(u, arg & 1 ? "1 t T Z" : "1 t n Z");
    begun(w, u, pg_machine_describe(&w->m, texts[0], &(struct pg_params){0}));
}

static void ask_simple(struct world *w, unsigned arg)
{
    static const char *const replies[][3] = {
        {"T D:n%u C:SELECT_1 Z"},
        {"C:SET Z"},
        {"I Z"},
        {"T D:n%u C:SELECT_1", "T D:n%u C:SELECT_1", "C:DISCARD_ALL Z"},
        {"G E:57014 Z"},
        {"H d:x c C:COPY_1 Z"},
    };
    struct pg_asked *u = new_unit(w, false);
    for (int i = 0; i < 3 && replies[arg % 6][i]; i++)
        pg_asked_add(u, replies[arg % 6][i]);
    u->error = arg % 6 >= 4; /* a COPY is refused */
    begun(w, u, pg_machine_simple(&w->m, "x"));
}

static void ask_copy(struct world *w, unsigned arg)
{
    struct pg_asked *u = new_unit(w, false);
    pg_asked_add(u, arg & 1 ? "G ^ C:COPY_1 Z" : "H d:x d:y c C:COPY_2 Z");
    begun(w, u, pg_machine_copy(&w->m, "x"));
}

static void ask_batch(struct world *w, unsigned arg)
{
    struct pg_params p = params(w, arg);
    struct pg_asked *u = new_unit(w, false);
    unsigned n = arg % MOST_STATEMENTS;
    bool ok = pg_machine_batch_begin(&w->m, arg & 64, arg & 128);
    begun(w, u, ok);
    if (!ok)
        return;
    for (unsigned i = 0; i < w->m.ahead; i++)
        pg_asked_add(u, "1 2 n C:DEALLOCATE");
    w->building = true;
    for (unsigned i = 0; ok && i < n; i++) {
        bool again = i > 0 && arg & 32;
        size_t parsed = w->m.batch.names.sent;
        ok = pg_machine_batch_add(&w->m, again ? NULL : texts[arg & 16 ? i % TEXTS : 0], &p);
        bool parses = w->m.batch.names.sent > parsed;
        pg_asked_add(u, parses ? "1 2 T D:n%u C:SELECT_1" : "2 T D:n%u C:SELECT_1");
    }
    ok = ok && pg_machine_batch_end(&w->m);
    pg_asked_add(u, "Z");
    w->building = false;
    if (!ok) {
        pg_must(w->m.state == PG_BROKEN && error_is_set(&w->m.error),
                "half a batch on a connection that goes on");
        u->gone = true;
    }
}

static void share(struct world *w, unsigned arg)
{
    struct pg_params p = params(w, arg);
    const char *sql = texts[arg % TEXTS];
    if (w->m.state != PG_IDLE)
        return;
    struct pg_cached *e = pg_machine_shareable(&w->m, sql, strlen(sql), &p);
    for (unsigned i = 0; e && i <= arg / TEXTS % 4; i++) {
        if (w->n >= UNITS || w->m.owed >= PG_MOST_GROUPS)
            return;
        struct pg_asked *u = new_unit(w, true);
        pg_asked_add(u, "2 T D:n%u C:SELECT_1 Z");
        if (!pg_machine_share(&w->m, e, &p, u)) {
            w->n--;
            step(w, 0);
            return;
        }
    }
}

static void abandon(struct world *w, unsigned arg)
{
    unsigned i = w->n ? arg % w->n : 0;
    if (w->n == 0 || !w->unit[i].shared)
        return;
    pg_machine_abandon(&w->m, &w->unit[i]);
    w->unit[i].gone = true;
}

static void discard(struct world *w)
{
    if (!w->alone || w->m.state == PG_BROKEN)
        return;
    w->alone->gone = true;
    pg_machine_discard(&w->m);
    step(w, 0);
}

static void use_copy(struct world *w, unsigned arg)
{
    char *row;
    int n = 0;
    if (w->m.state == PG_COPY_IN && arg & 1)
        pg_machine_copy_put(&w->m, "some data\n", 10);
    else if (w->m.state == PG_COPY_IN) {
        pg_machine_copy_end(&w->m, arg & 2 ? "failed" : NULL);
        step(w, 0);
    }
    while (w->m.state == PG_COPY_OUT && (n = pg_machine_copy_get(&w->m, &row)) > 0)
        PQfreemem(row);
    if (n < 0)
        step(w, 0);
}

/* ---- the server's messages ---- */

static void say(struct world *w, const char *word)
{
    pg_must(pg_script_add(&w->out, word), word);
}

/* Messages that can arrive at any time. */
static void say_aside(struct world *w, unsigned arg)
{
    static const char *const asides[] = {"N", "S", "A"};
    say(w, asides[arg % 3]);
}

static void say_next(struct world *w, unsigned arg)
{
    struct pg_asked *u = &w->unit[w->serving];
    if (!w->honest || w->serving >= w->n || (u == w->alone && w->building))
        return;
    pg_asked_say(u, &w->out, arg & 128, w->m.state == PG_COPY_IN);
    w->serving += u->served;
}

static void say_anything(struct world *w, unsigned arg)
{
    static const char *const words[] = {
        "1",         "2",       "3",       "n",          "s",   "I",   "t",    "T",
        "T:2",       "D",       "D:X",     "C:SELECT_1", "C",   "E",   "Z",    "E:57014",
        "F:57P01",   "P:57P02", "E:22012", "Z:T",        "Z:E", "G",   "H",    "W",
        "d:X",       "c",       "N",       "S",          "A",   "T:0", "Town", "C:DISCARD_ALL",
        "C:ALTER_X", "!00",     "!450000", "!44000000",
    };
    if (!w->may_lie)
        return;
    w->honest = false;
    say(w, words[arg % (sizeof words / sizeof *words)]);
}

static void say_bytes(struct world *w, unsigned n)
{
    if (!w->may_lie)
        return;
    w->honest = false;
    n = n % 32 < w->size ? n % 32 : (unsigned)w->size;
    buf_add(&w->out, w->data, n);
    w->data += n;
    w->size -= n;
}

static void send_some(struct world *w, size_t n)
{
    n = n < w->out.len ? n : w->out.len;
    if (w->hung_up || n == 0)
        return;
    if (!w->little)
        pg_script_swallow(&peer);
    pg_script_send(&peer, w->out.data, n);
    buf_consume(&w->out, n);
}

static void hang_up(struct world *w)
{
    pg_script_hang_up(&peer);
    w->hung_up = true;
}

/* ---- one input ---- */

static void server_does(struct world *w, unsigned op, unsigned arg)
{
    switch (op % 8) {
    case 0:
    case 1:
    case 2:
        for (unsigned i = 0; i <= arg % 8; i++)
            say_next(w, arg);
        send_some(w, SIZE_MAX);
        break;
    case 3:
        say_next(w, arg);
        break;
    case 4:
        if (arg & 128)
            pg_script_swallow(&peer);
        else
            say_aside(w, arg);
        break;
    case 5:
        send_some(w, arg % 16);
        break;
    case 6:
        say_anything(w, arg);
        break;
    case 7:
        if (arg & 128)
            say_bytes(w, arg);
        else if (arg == 127)
            hang_up(w);
        send_some(w, SIZE_MAX);
        break;
    }
}

static void user_does(struct world *w, unsigned op, unsigned arg)
{
    static void (*const asks[])(struct world *, unsigned) = {ask_query,  ask_query, ask_describe,
                                                             ask_simple, ask_copy,  ask_batch};
    switch (op % 16) {
    case 0:
    case 1:
        share(w, arg);
        break;
    default:
        if (may_begin(w))
            asks[op % 16 - 2](w, arg);
        break;
    case 8:
        abandon(w, arg);
        break;
    case 9:
        discard(w);
        break;
    case 10:
        if (pg_machine_may_cancel(&w->m))
            pg_machine_cancel_sent(&w->m);
        break;
    case 11:
        if (arg == 255)
            pg_machine_break(&w->m);
        break;
    case 12:
        use_copy(w, arg);
        break;
    case 13:
        step(w, 0);
        break;
    case 14:
        if (readiness(w))
            step(w, readiness(w));
        break;
    case 15:
        turn(w);
        break;
    }
}

/* Two statements are prepared, so that they can be shared. */
static void learn(struct world *w)
{
    for (unsigned i = 0; i < 6; i++) {
        ask_query(w, i / 3);
        for (int k = 0; k < 8; k++)
            say_next(w, 0);
        send_some(w, SIZE_MAX);
        turn(w);
        pg_must(!w->alone && w->m.state == PG_IDLE, "not learnt");
    }
}

/* All messages arrive, and then the end of the connection. */
static void finish(struct world *w)
{
    send_some(w, SIZE_MAX);
    turn(w);
    while (!w->hung_up && pg_script_swallow(&peer) > 0)
        turn(w);
    hang_up(w);
    for (int i = 0; w->m.state != PG_BROKEN; i++) {
        pg_must(i < MOST_STEPS, "no end behind the end of the connection");
        use_copy(w, 0);
        if (readiness(w))
            step(w, readiness(w));
    }
    check_books(w);
    for (unsigned i = 0; i < w->n; i++)
        pg_must(w->unit[i].told || w->unit[i].gone, "an owner that was never told");
}

static void make_little(const struct world *w)
{
    int room = 1; /* the least there is */
    pg_must(setsockopt(pg_machine_fd(&w->m), SOL_SOCKET, SO_SNDBUF, &room, sizeof room) == 0, "SO_SNDBUF");
}

static void close_peer(void)
{
    pg_script_close(&peer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool opened;
    static struct world world;
    struct world *w = &world;
    if (size < 2)
        return 0;
    if (!opened) {
        pg_script_open(&peer);
        atexit(close_peer);
    }
    opened = true;
    *w = (struct world){.data = data, .size = size, .honest = true, .want = PG_DONE};
    unsigned how = next(w);
    bool piecewise = how & 1;
    w->may_lie = how & 2;
    w->little = how & 4;
    if (w->may_lie) /* libpq loses the result that it is reading when a sync or a COPY comes too early */
        __lsan_disable();
    pg_must(pg_machine_init(&w->m, pg_script_connect(&peer), 2, NULL, NULL), "no memory");
    if (w->little)
        make_little(w);
    pg_script_never_wait = true;
    w->m.settled = settled;
    w->m.data = w;
    learn(w);
    while (w->size > 0) {
        unsigned op = next(w);
        unsigned arg = next(w);
        (op & 128 ? server_does : user_does)(w, op, arg);
        check_books(w);
        if (!piecewise || op & 64)
            turn(w);
    }
    finish(w);
    pg_script_never_wait = false;
    pg_machine_close(&w->m);
    check_books(w);
    buf_free(&w->out);
    if (w->may_lie)
        __lsan_enable();
    return 0;
}
