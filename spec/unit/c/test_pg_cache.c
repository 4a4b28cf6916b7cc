/* The statement cache of one connection, also against a model of the server's prepared statements. */
#include "check.h"
#include "pg/cache.h"

enum { NAME = 40, NO_LIMIT_NAMES = 4096 };

static int forgotten[64];
static unsigned n_forgotten;

static void forget(void *data, int ref)
{
    CHECK(data == forgotten);
    if (n_forgotten < 64)
        forgotten[n_forgotten] = ref;
    n_forgotten++;
}

static struct pg_cache *make(uint32_t limit)
{
    n_forgotten = 0;
    return pg_cache_new(limit, forget, forgotten);
}

/* As the machine does: found, or added; before it is prepared, an evicted entry's name may need closing. */
static struct pg_cached *get_part(struct pg_cache *c, const char *sql, size_t len, char evicted[NAME])
{
    struct pg_cached *e = pg_cache_find(c, sql, len);
    evicted[0] = '\0';
    if (e && e->seen && !e->prepared)
        pg_cache_take_deferred(c, false, evicted);
    return e ? e : pg_cache_add(c, sql, len, evicted);
}

static struct pg_cached *get(struct pg_cache *c, const char *sql, char evicted[NAME])
{
    return get_part(c, sql, strlen(sql), evicted);
}

static void test_same_entry(void)
{
    char evicted[NAME];
    struct pg_cache *c = make(10);
    struct pg_cached *a = get(c, "select 1", evicted);
    struct pg_cached *b = get(c, "select 2", evicted);
    if (!CHECK(a && b && a != b))
        return;
    CHECK(get(c, "select 1", evicted) == a);
    CHECK(get(c, "select 2", evicted) == b);
    CHECK(strcmp(a->name, b->name) != 0);
    CHECK_STR(a->sql, "select 1");
    CHECK_EQ(a->len, 8);
    CHECK_EQ(pg_cache_count(c), 2);
    CHECK(!a->seen && !a->prepared && !a->ref);
    /* Texts that differ in one byte, or in length only. */
    CHECK(get(c, "select 1 ", evicted) != a);
    CHECK(get(c, "select", evicted) != a);
    CHECK(get_part(c, "select 1 /* long tail */", 8, evicted) == a);
    pg_cache_free(c);
}

static void test_lru(void)
{
    char evicted[NAME];
    struct pg_cache *c = make(3);
    get(c, "a", evicted)->prepared = true;
    get(c, "b", evicted)->prepared = true;
    char b_name[NAME];
    strcpy(b_name, get(c, "b", evicted)->name);
    get(c, "c", evicted);
    get(c, "a", evicted); /* now b is the oldest */
    CHECK_STR(evicted, "");
    get(c, "d", evicted);
    CHECK_STR(evicted, b_name);
    CHECK_EQ(pg_cache_count(c), 3);
    get(c, "e", evicted); /* c was never prepared: the server has nothing to close */
    CHECK_STR(evicted, "");
    CHECK(get(c, "a", evicted)->prepared);
    CHECK(!get(c, "b", evicted)->prepared);
    pg_cache_free(c);
}

static void test_forget(void)
{
    char evicted[NAME];
    struct pg_cache *c = make(2);
    get(c, "a", evicted)->ref = 11;
    get(c, "b", evicted);
    get(c, "c", evicted);
    CHECK_EQ(n_forgotten, 1);
    CHECK_EQ(forgotten[0], 11);
    get(c, "c", evicted)->ref = 12;
    pg_cache_clear(c);
    CHECK_EQ(n_forgotten, 2);
    CHECK_EQ(forgotten[1], 12);
    CHECK_EQ(pg_cache_count(c), 0);
    get(c, "d", evicted)->ref = 13;
    pg_cache_free(c);
    CHECK_EQ(n_forgotten, 3);
    CHECK_EQ(forgotten[2], 13);
}

static void test_off(void)
{
    char evicted[NAME];
    struct pg_cache *c = make(0);
    CHECK(get(c, "a", evicted) == NULL);
    CHECK_STR(evicted, "");
    pg_cache_free(c);
    c = make(5);
    get(c, "a", evicted)->ref = 3;
    pg_cache_disable(c);
    CHECK_EQ(n_forgotten, 1);
    CHECK(get(c, "a", evicted) == NULL);
    CHECK_EQ(pg_cache_count(c), 0);
    pg_cache_free(c);
}

static void test_long(void)
{
    char evicted[NAME];
    struct pg_cache *c = make(5);
    size_t len = 1 << 20;
    char *sql = malloc(len);
    memset(sql, 'x', len);
    CHECK(get_part(c, sql, len, evicted) == NULL);
    CHECK(get_part(c, sql, 1000, evicted) != NULL);
    CHECK(get_part(c, sql, 0, evicted) != NULL);
    free(sql);
    pg_cache_free(c);
}

static void test_names(void)
{
    char evicted[NAME];
    char name[NAME];
    struct pg_cache *a = make(1);
    struct pg_cache *b = make(1);
    strcpy(name, get(a, "select 1", evicted)->name);
    CHECK(strcmp(name, get(b, "select 1", evicted)->name) != 0);
    CHECK_EQ(strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_"), strlen(name));
    /* A name is not reused: the server may still know it. */
    get(a, "select 2", evicted);
    CHECK(strcmp(name, get(a, "select 1", evicted)->name) != 0);
    pg_cache_free(a);
    pg_cache_free(b);
}

static void test_cleared_owes_nothing(void)
{
    char evicted[NAME];
    struct pg_cache *c = make(2);
    struct pg_cached *a = get(c, "a", evicted);
    a->prepared = a->seen = true;
    get(c, "b", evicted);
    get(c, "c", evicted);
    CHECK(evicted[0]);
    pg_cache_defer_close(c, evicted);
    pg_cache_clear(c); /* the server has dropped that name, too: closing it would be an error */
    get(c, "d", evicted)->seen = true;
    get(c, "d", evicted);
    CHECK_STR(evicted, "");
    pg_cache_free(c);
}

/* ---- against a model ---- */

struct model {
    char sql[64][24]; /* newest first */
    unsigned n;
    unsigned limit;
    char server[NO_LIMIT_NAMES][NAME]; /* what the server has prepared */
    unsigned n_server;
};

static struct model model;

static bool server_close(const char *name)
{
    for (unsigned i = 0; i < model.n_server; i++)
        if (strcmp(model.server[i], name) == 0) {
            memmove(model.server[i], model.server[--model.n_server], NAME); /* maybe onto itself */
            return true;
        }
    return false;
}

/* Moves the text to the front; true when it was there. */
static bool model_use(const char *sql)
{
    unsigned at = 0;
    while (at < model.n && strcmp(model.sql[at], sql) != 0)
        at++;
    bool hit = at < model.n;
    if (!hit) {
        if (model.n == model.limit)
            model.n--;
        at = model.n++;
    }
    memmove(model.sql[1], model.sql[0], at * sizeof *model.sql);
    strcpy(model.sql[0], sql);
    return hit;
}

/* What the machine does with a statement. */
static bool run_statement(struct pg_cache *c, struct prng *r, const char *sql)
{
    char evicted[NAME];
    bool hit = model_use(sql);
    struct pg_cached *e = get(c, sql, evicted);
    if (!CHECK(e) || !CHECK_STR(e->sql, sql) || !CHECK(hit == e->seen))
        return false;
    bool may_prepare = !prng_one_in(r, 10); /* not in a failed transaction */
    if (e->seen && !e->prepared && may_prepare) {
        if (evicted[0] && !CHECK(server_close(evicted)))
            return false;
        if (!CHECK(model.n_server < NO_LIMIT_NAMES))
            return false;
        strcpy(model.server[model.n_server++], e->name);
        e->prepared = true;
    } else if (evicted[0]) {
        pg_cache_defer_close(c, evicted);
    }
    e->seen = true;
    return CHECK_EQ(pg_cache_count(c), model.n) && CHECK(model.n_server <= model.limit);
}

static void test_random(void)
{
    struct prng r = prng_new(check_seed("pg_cache"));
    for (int round = 0; round < 20; round++) {
        model = (struct model){.limit = 1 + prng_below(&r, 60)};
        struct pg_cache *c = make(model.limit);
        uint32_t texts = 1 + prng_below(&r, 3 * model.limit);
        bool ok = true;
        for (uint64_t i = check_ops(100000) / 20; i > 0 && ok; i--) {
            char sql[24];
            if (prng_one_in(&r, 500)) /* another phase of the program: other statements */
                texts += prng_below(&r, 2 * model.limit);
            uint32_t window = 1 + prng_below(&r, 2 * model.limit);
            snprintf(sql, sizeof sql, "select %u", texts - prng_below(&r, texts < window ? texts : window));
            ok = run_statement(c, &r, sql);
            if (ok && prng_one_in(&r, 2000)) {
                pg_cache_clear(c); /* DISCARD ALL */
                model.n = model.n_server = 0;
            }
        }
        pg_cache_free(c);
        if (!ok)
            return;
    }
}

int main(void)
{
    TEST("the same text has the same entry", test_same_entry);
    TEST("the least recently used entry is evicted first, and the server closes it", test_lru);
    TEST("an evicted entry gives up everything kept with it", test_forget);
    TEST("a cache of 0 keeps nothing, and it can be switched off", test_off);
    TEST("very long statements are not kept", test_long);
    TEST("names are random and never used twice", test_names);
    TEST("after DISCARD ALL nothing is left to close", test_cleared_owes_nothing);
    TEST("the server never keeps more statements than the limit", test_random);
    return check_end("pg_cache");
}
