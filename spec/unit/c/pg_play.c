#include "pg_play.h"

#include "base/deadline.h"
#include "check.h"
#include "io/poll.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { BIG = 1 << 20, MOST_TURNS = 100000, OWNERS = 128, INT4 = 23, TOO_MANY = 65536 };

struct play {
    struct pg_script *script;
    enum pg_play_way way;
    struct pg_machine m;
    struct pg_catalog *catalog;
    unsigned want;
    bool quiet;   /* report nothing */
    bool alone;   /* a group is alone in flight */
    bool copying; /* the start of a COPY was reported */
    bool big;
    bool many;
    bool typed;
    char sql[256];
    struct buf incoming;
};

static struct buf told;
static char owner[OWNERS];

/* ---- the report ---- */

static void tell(const struct play *p, const char *text)
{
    if (p->quiet)
        return;
    if (told.len > 0)
        buf_adds(&told, " ");
    for (; *text; text++)
        buf_add(&told, *text == ' ' ? "_" : text, 1);
}

static void tell_about(const struct play *p, const char *what, const char *text)
{
    struct buf line = {0};
    buf_addf(&line, "%s%s", what, text);
    tell(p, line.data);
    buf_free(&line);
}

static void tell_end(const struct play *p, const char *what, PGresult *r, const struct error *e)
{
    struct buf line = {0};
    buf_adds(&line, what);
    if (e && error_is_set(e))
        pg_script_describe_error(&line, e);
    else
        pg_script_describe_result(&line, r);
    tell(p, line.data);
    buf_free(&line);
}

static void tell_batch(const struct play *p)
{
    const struct pg_batch *b = &p->m.batch;
    struct buf line = {0};
    buf_addf(&line, "%zu:%lld", b->n, b->affected);
    for (size_t i = 0; b->list && i < b->n; i++) {
        buf_adds(&line, ":");
        pg_script_describe_result(&line, b->list[i]);
    }
    tell_about(p, "=", line.data);
    buf_free(&line);
}

/* pg_machine's settled. */
static void settled(void *data, void *who, PGresult *r, struct error *e)
{
    char name[3] = {(char)((char *)who - owner), '=', '\0'};
    tell_end(data, name, r, e);
    PQclear(r);
    CHECK((r == NULL) == (e != NULL));
}

/* Reports the end of the group that was alone, once it is known. */
static void tell_alone(struct play *p)
{
    static const char *const states[] = {"CLOSED", "IDLE", "PLAIN", "COPY_IN", "COPY_OUT", "PIPE", "BROKEN"};
    const char *wrong = pg_script_check(&p->m);
    if (wrong)
        CHECK_NEVER(wrong);
    if (p->m.state == PG_CLOSED)
        p->alone = false;
    if (p->alone && p->m.owed == 0) {
        p->alone = false;
        if (p->m.batch.active && !error_is_set(&p->m.error))
            tell_batch(p);
        else
            tell_end(p, "=", p->m.result, &p->m.error);
        CHECK(!error_is_set(&p->m.error) || p->m.result == NULL);
    }
    bool copying = (p->m.state == PG_COPY_IN || p->m.state == PG_COPY_OUT) && !p->m.discard && !p->m.unwanted;
    if (copying && !p->copying)
        tell(p, states[p->m.state]);
    p->copying = copying;
}

/* ---- stepping ---- */

static void step(struct play *p, unsigned ready)
{
    pg_script_never_wait = true;
    p->want = pg_machine_step(&p->m, ready);
    for (; p->want & PG_ROW; p->want = pg_machine_step(&p->m, 0)) {
        PGresult *r = pg_machine_take(&p->m);
        tell_end(p, "row=", r, NULL);
        PQclear(r);
    }
    pg_script_never_wait = false;
}

/* The part of what the machine wants for which the socket is ready; an idle connection wants to read. */
static unsigned readiness(const struct play *p)
{
    unsigned want = p->want & (PG_WANT_READ | PG_WANT_WRITE);
    return pg_script_readiness(&p->m, (want ? want : PG_WANT_READ) | (p->m.flushing ? PG_WANT_WRITE : 0));
}

/* What the event loop does as long as the socket is ready. */
static void turn(struct play *p)
{
    int turns = 0;
    for (unsigned ready; (ready = readiness(p)); turns++) {
        step(p, ready);
        if (!CHECK(turns < MOST_TURNS))
            return;
    }
    tell_alone(p);
}

/* What the blocking driver does, up to the point at which it would wait. */
static void drive(struct play *p)
{
    unsigned ready;
    step(p, 0);
    while (!(p->want & PG_DONE) &&
           io_poll(pg_machine_fd(&p->m), p->want, deadline_in(0), NULL, &ready) == IO_READY)
        step(p, ready);
    if (p->m.state == PG_IDLE || p->m.state == PG_COPY_IN || p->m.state == PG_COPY_OUT)
        turn(p); /* the user waits by other means */
    else
        tell_alone(p);
}

static void progress(struct play *p)
{
    if (p->way == PG_PLAY_DRIVEN)
        drive(p);
    else
        turn(p);
}

static void deliver(struct play *p)
{
    size_t piece = p->way == PG_PLAY_BYTES ? 1 : p->incoming.len;
    if (p->incoming.len == 0)
        return;
    pg_script_swallow(p->script);
    for (size_t at = 0; at < p->incoming.len; at += piece) {
        pg_script_send(p->script, p->incoming.data + at, piece);
        progress(p);
    }
    buf_clear(&p->incoming);
}

/* ---- calls of the machine's user ---- */

static const char *big_text(void)
{
    static char big[BIG];
    memset(big, 'x', sizeof big - 1);
    return big;
}

static struct pg_params params(struct play *p)
{
    static const char *values[1];
    static const int lengths[1], formats[1];
    static const Oid types[1] = {INT4};
    values[0] = p->big ? big_text() : "v";
    struct pg_params v = {.n = p->many ? TOO_MANY : 1,
                          .types = p->typed ? types : NULL,
                          .values = values,
                          .lengths = lengths,
                          .formats = formats};
    p->big = p->many = p->typed = false;
    return v;
}

/* In a scenario's words '_' stands for a blank. */
static void set_sql(struct play *p, const char *word)
{
    snprintf(p->sql, sizeof p->sql, "%s", word);
    for (char *at = strchr(p->sql, '_'); at; at = strchr(at, '_'))
        *at = ' ';
}

static const char *sql(struct play *p)
{
    const char *text = p->big ? big_text() : p->sql;
    p->big = false;
    return text;
}

static void begun(struct play *p, bool ok)
{
    if (!ok)
        tell_end(p, "no ", NULL, &p->m.error);
    p->alone = ok || (p->alone && p->m.state != PG_BROKEN); /* refused, while another one goes on */
}

static void query(struct play *p, bool once)
{
    struct pg_params v = params(p);
    v.once = once;
    begun(p, pg_machine_query(&p->m, p->sql, strlen(p->sql), &v));
}

static void reply(struct play *p, const char *words)
{
    char copy[128];
    char *rest;
    strcpy(copy, words);
    for (char *w = strtok_r(copy, " ", &rest); w; w = strtok_r(NULL, " ", &rest))
        CHECK(pg_script_add(&p->incoming, w));
    deliver(p);
}

static void learn(struct play *p, bool prepare)
{
    p->quiet = true;
    query(p, false);
    reply(p, "1 2 T:1 D:0 C:SELECT_1 Z");
    if (prepare) {
        query(p, false);
        reply(p, "1 2 T:1 D:0 C:SELECT_1 Z");
        query(p, false);
        reply(p, "2 T:1 D:0 C:SELECT_1 Z");
    }
    p->quiet = false;
    CHECK(p->m.state == PG_IDLE && (!prepare || p->m.entry->prepared));
}

/* Whether the machine knows the statement as prepared. */
static bool is_known(const struct play *p)
{
    const struct pg_cached *e = pg_cache_find(p->m.cache, p->sql, strlen(p->sql));
    return e && e->prepared;
}

static void add(struct play *p, const char *sql)
{
    struct pg_params v = params(p);
    if (p->alone)
        begun(p, pg_machine_batch_add(&p->m, sql, &v));
}

static void close_batch(struct play *p)
{
    if (p->alone)
        begun(p, pg_machine_batch_end(&p->m));
}

static void batch(struct play *p, int n, bool count_only)
{
    begun(p, pg_machine_batch_begin(&p->m, count_only, false));
    for (int i = 0; i < n; i++)
        add(p, i ? NULL : p->sql);
    close_batch(p);
}

static void share(struct play *p, char name)
{
    struct pg_params v = params(p);
    struct pg_cached *e = pg_machine_shareable(&p->m, p->sql, strlen(p->sql), &v);
    p->m.settled = settled;
    p->m.data = p;
    if (!e)
        tell_about(p, "no", "_entry");
    else if (!pg_machine_share(&p->m, e, &v, &owner[(unsigned char)name]))
        tell_about(p, "no", "_share");
}

static void describe(struct play *p)
{
    struct pg_params v = {.n = p->many ? TOO_MANY : 0};
    p->many = false;
    begun(p, pg_machine_describe(&p->m, sql(p), &v));
}

static void put(struct play *p, const char *text)
{
    char line[32];
    struct pg_params v = params(p);
    const char *data = text[0] ? text : v.values[0];
    snprintf(line, sizeof line, "put=%d", pg_machine_copy_put(&p->m, data, strlen(data)));
    tell(p, line);
}

static void get(struct play *p)
{
    char *row;
    int n;
    while ((n = pg_machine_copy_get(&p->m, &row)) > 0) {
        tell_about(p, "got=", row);
        PQfreemem(row);
    }
    tell(p, n ? "end" : "wait");
    p->want = 0;
    if (n < 0)
        step(p, 0);
}

static void make_little(const struct play *p)
{
    int room = 1; /* the least there is */
    CHECK(setsockopt(pg_machine_fd(&p->m), SOL_SOCKET, SO_SNDBUF, &room, sizeof room) == 0);
}

/* ---- words ---- */

/* Words that only query, or set something up. */
static bool small_word(struct play *p, const char *w, const char *arg)
{
    if (strcmp(w, "may") == 0)
        tell(p, pg_machine_may_cancel(&p->m) ? "may" : "may_not");
    else if (strcmp(w, "clean") == 0)
        tell(p, pg_machine_is_clean(&p->m) ? "clean" : "unclean");
    else if (strcmp(w, "busy") == 0)
        tell(p, pg_machine_is_busy(&p->m) ? "busy" : "free");
    else if (strcmp(w, "inside") == 0)
        tell(p, pg_machine_in_transaction(&p->m) ? "inside" : "outside");
    else if (strcmp(w, "refused") == 0)
        tell(p, p->m.refused ? "refused" : "taken");
    else if (strcmp(w, "entries") == 0)
        tell_about(p, "entries=", pg_cache_count(p->m.cache) ? "some" : "none");
    else if (strcmp(w, "known") == 0)
        tell_about(p, "known=", is_known(p) ? "yes" : "no");
    else if (strcmp(w, "sql") == 0)
        set_sql(p, arg);
    else if (strcmp(w, "text") == 0)
        p->m.text_only = true;
    else if (strcmp(w, "catalog") == 0)
        p->m.catalog = p->catalog = pg_catalog_new();
    else if (strcmp(w, "big") == 0)
        p->big = true;
    else if (strcmp(w, "many") == 0)
        p->many = true;
    else if (strcmp(w, "typed") == 0)
        p->typed = true;
    else if (strcmp(w, "little") == 0)
        make_little(p);
    else
        return false;
    return true;
}

static bool begin_word(struct play *p, const char *w, const char *arg)
{
    if (strcmp(w, "query") == 0)
        query(p, false);
    else if (strcmp(w, "once") == 0)
        query(p, true);
    else if (strcmp(w, "see") == 0)
        learn(p, false);
    else if (strcmp(w, "learn") == 0)
        learn(p, true);
    else if (strcmp(w, "stream") == 0)
        pg_machine_stream(&p->m);
    else if (strcmp(w, "describe") == 0)
        describe(p);
    else if (strcmp(w, "simple") == 0)
        begun(p, pg_machine_simple(&p->m, sql(p)));
    else if (strcmp(w, "copy") == 0)
        begun(p, pg_machine_copy(&p->m, "copy t from stdin"));
    else if (strcmp(w, "batch") == 0 || strcmp(w, "counts") == 0)
        batch(p, atoi(arg), w[0] == 'c');
    else if (strcmp(w, "open") == 0)
        begun(p, pg_machine_batch_begin(&p->m, false, false));
    else if (strcmp(w, "add") == 0)
        add(p, p->sql);
    else if (strcmp(w, "same") == 0)
        add(p, NULL);
    else if (strcmp(w, "close_batch") == 0)
        close_batch(p);
    else
        return false;
    return true;
}

static bool word(struct play *p, const char *w, const char *arg)
{
    if (strcmp(w, "share") == 0)
        share(p, arg[0]);
    else if (strcmp(w, "abandon") == 0)
        pg_machine_abandon(&p->m, &owner[(unsigned char)arg[0]]);
    else if (strcmp(w, "discard") == 0)
        pg_machine_discard(&p->m);
    else if (strcmp(w, "cancel") == 0)
        pg_machine_cancel_sent(&p->m);
    else if (strcmp(w, "break") == 0)
        pg_machine_break(&p->m);
    else if (strcmp(w, "close") == 0)
        pg_machine_close(&p->m);
    else if (strcmp(w, "detach") == 0)
        PQfinish(pg_machine_detach(&p->m));
    else if (strcmp(w, "put") == 0)
        put(p, arg);
    else if (strcmp(w, "end") == 0)
        pg_machine_copy_end(&p->m, NULL);
    else if (strcmp(w, "fail") == 0)
        pg_machine_copy_end(&p->m, "made to fail");
    else if (strcmp(w, "get") == 0)
        get(p);
    else if (strcmp(w, "look") == 0)
        pg_machine_copy_look(&p->m);
    else if (strcmp(w, "eof") == 0 || strcmp(w, "gone") == 0)
        pg_script_hang_up(p->script);
    else if (strcmp(w, "step") == 0)
        step(p, 0);
    else if (strcmp(w, "go") == 0)
        progress(p);
    else if (strcmp(w, "swallow") == 0)
        while (pg_script_swallow(p->script) > 0)
            progress(p);
    else
        return false;
    return true;
}

/* Whether the event loop runs during the word. */
static bool plays_on(const char *w)
{
    return strcmp(w, "go") == 0 || strcmp(w, "swallow") == 0 || strcmp(w, "see") == 0 ||
           strcmp(w, "learn") == 0;
}

static void obey(struct play *p, char *w)
{
    char *colon = strchr(w, ':');
    if (colon)
        *colon = '\0';
    const char *arg = colon ? colon + 1 : "";
    for (char *at = colon; at && *at; at++)
        if (at > colon && *at == '_')
            *at = ' ';
    if (small_word(p, w, arg))
        return;
    pg_script_never_wait = !plays_on(w);
    if (!begin_word(p, w, arg) && !word(p, w, arg))
        CHECK_NEVER(w);
    pg_script_never_wait = false;
    tell_alone(p);
}

/* Whether the user waits after the word. */
static bool is_waited_for(const char *w)
{
    return strcmp(w, "discard") == 0 || strcmp(w, "end") == 0 || strcmp(w, "fail") == 0;
}

/* Whether the event loop notices the word. */
static bool is_seen(const char *w)
{
    return strcmp(w, "eof") == 0;
}

static void finish(struct play *p)
{
    static const char *const states[] = {"CLOSED", "IDLE", "PLAIN", "COPY_IN", "COPY_OUT", "PIPE", "BROKEN"};
    deliver(p);
    tell(p, states[p->m.state]);
    pg_machine_close(&p->m);
    pg_catalog_free(p->catalog);
    buf_free(&p->incoming);
    pg_script_hang_up(p->script);
}

const char *pg_play(struct pg_script *s, enum pg_play_way way, const char *scenario)
{
    struct play p = {.script = s, .way = way, .want = PG_DONE, .sql = "select $1"};
    char *words = strdup(scenario);
    char *rest;
    buf_clear(&told);
    uint32_t limit = strncmp(scenario, "cache:", 6) == 0 ? (uint32_t)atoi(scenario + 6) : 10;
    CHECK(words && pg_machine_init(&p.m, pg_script_connect(s), limit, NULL, NULL));
    for (char *w = strtok_r(words, " ", &rest); w; w = strtok_r(NULL, " ", &rest)) {
        if (w[0] == '<') {
            if (!pg_script_add(&p.incoming, w + 1))
                CHECK_NEVER(w);
            continue;
        }
        if (strcmp(w, "unseen") == 0) {
            pg_script_swallow(s);
            pg_script_send(s, p.incoming.data, p.incoming.len);
            buf_clear(&p.incoming);
            continue;
        }
        deliver(&p);
        if (strncmp(w, "cache:", 6) == 0)
            continue;
        bool waited_for = is_waited_for(w);
        bool seen = is_seen(w) || waited_for;
        obey(&p, w);
        if (waited_for)
            step(&p, 0);
        if (seen)
            progress(&p);
    }
    free(words);
    finish(&p);
    return told.data;
}

void pg_play_all(struct pg_script *s, const struct pg_scenario *list, size_t n)
{
    static const char *const ways[] = {"in one piece", "byte by byte", "driven"};
    for (size_t i = 0; i < n; i++)
        for (enum pg_play_way way = 0; way < PG_PLAY_WAYS; way++)
            if (!CHECK_STR(pg_play(s, way, list[i].words), list[i].end))
                printf("    %s: %s\n", ways[way], list[i].words);
}

void pg_play_end(void)
{
    buf_free(&told);
}
