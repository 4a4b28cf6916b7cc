#include "pg/cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { BUCKETS = 256, LONGEST = 16 * 1024, NAME_SIZE = 40 };

struct pg_cache {
    struct pg_cached *bucket[BUCKETS];
    struct pg_cached *newest;
    struct pg_cached *oldest;
    void (*forget)(void *data, int ref);
    void *data;
    /* Names of evicted statements that are still prepared on the server. Each PREPARE outside a transaction
     * closes one of them, so the server never holds more than twice `limit`. */
    char (*deferred)[NAME_SIZE];
    uint32_t n_deferred;
    uint32_t cap_deferred;
    uint64_t random;
    uint32_t limit;
    uint32_t count;
    uint32_t named;
};

struct pg_cache *pg_cache_new(uint32_t limit, void (*forget)(void *data, int ref), void *data)
{
    struct pg_cache *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->limit = limit;
    c->forget = forget;
    c->data = data;
    if (getrandom(&c->random, sizeof c->random, 0) != (ssize_t)sizeof c->random) {
        free(c);
        return NULL;
    }
    return c;
}

void pg_cache_clear(struct pg_cache *c)
{
    while (c->newest)
        pg_cache_forget(c, c->newest);
    c->n_deferred = 0;
}

void pg_cache_disable(struct pg_cache *c)
{
    pg_cache_clear(c);
    c->limit = 0;
}

void pg_cache_free(struct pg_cache *c)
{
    if (!c)
        return;
    pg_cache_clear(c);
    free(c->deferred);
    free(c);
}

uint32_t pg_cache_count(const struct pg_cache *c)
{
    return c->count;
}

uint32_t pg_cache_limit(const struct pg_cache *c)
{
    return c->limit;
}

/* FNV-1a over 8 bytes at a time: the caller compares the texts too, so speed matters more than spread. */
static uint64_t hash_text(const char *s, size_t len)
{
    uint64_t h = UINT64_C(14695981039346656037) ^ len;
    while (len >= 8) {
        uint64_t word;
        memcpy(&word, s, 8);
        h = (h ^ word) * UINT64_C(1099511628211);
        h ^= h >> 29;
        s += 8;
        len -= 8;
    }
    while (len--)
        h = (h ^ (unsigned char)*s++) * UINT64_C(1099511628211);
    return h ^ (h >> 32);
}

static void unlink_order(struct pg_cache *c, struct pg_cached *e)
{
    if (e->newer)
        e->newer->older = e->older;
    else
        c->newest = e->older;
    if (e->older)
        e->older->newer = e->newer;
    else
        c->oldest = e->newer;
}

static void link_newest(struct pg_cache *c, struct pg_cached *e)
{
    e->newer = NULL;
    e->older = c->newest;
    if (c->newest)
        c->newest->newer = e;
    else
        c->oldest = e;
    c->newest = e;
}

static void name_entry(struct pg_cache *c, struct pg_cached *e)
{
    snprintf(e->name, sizeof e->name, "dbrun_%016llx_%u", (unsigned long long)c->random, ++c->named);
}

static void forget_ref(struct pg_cache *c, struct pg_cached *e)
{
    if (e->ref && c->forget)
        c->forget(c->data, e->ref);
    e->ref = 0;
}

void pg_cache_forget(struct pg_cache *c, struct pg_cached *e)
{
    struct pg_cached **at = &c->bucket[e->hash % BUCKETS];
    while (*at != e)
        at = &(*at)->chain;
    *at = e->chain;
    unlink_order(c, e);
    c->count--;
    forget_ref(c, e);
    free(e);
}

void pg_cache_renew(struct pg_cache *c, struct pg_cached *e)
{
    if (e->prepared) {
        pg_cache_defer_close(c, e->name);
        name_entry(c, e);
    }
    forget_ref(c, e);
    e->seen = e->prepared = e->described = false;
}

static struct pg_cached *find_hashed(struct pg_cache *c, uint64_t hash, const char *sql, size_t len)
{
    for (struct pg_cached *e = c->bucket[hash % BUCKETS]; e; e = e->chain) {
        if (e->hash != hash || e->len != len || memcmp(e->sql, sql, len) != 0)
            continue;
        if (c->newest != e) {
            unlink_order(c, e);
            link_newest(c, e);
        }
        return e;
    }
    return NULL;
}

struct pg_cached *pg_cache_find(struct pg_cache *c, const char *sql, size_t len)
{
    return c->limit == 0 || len > LONGEST ? NULL : find_hashed(c, hash_text(sql, len), sql, len);
}

bool pg_cache_take_deferred(struct pg_cache *c, bool must, char name[40])
{
    if (c->n_deferred == 0 || (must && c->n_deferred < c->limit))
        return false;
    memcpy(name, c->deferred[--c->n_deferred], sizeof c->deferred[0]);
    return true;
}

struct pg_cached *pg_cache_add(struct pg_cache *c, const char *sql, size_t len, char evicted[40])
{
    evicted[0] = '\0';
    if (c->limit == 0 || len > LONGEST)
        return NULL;
    struct pg_cached *e = malloc(sizeof *e + len + 1);
    if (!e)
        return NULL;
    uint64_t hash = hash_text(sql, len);
    if (c->count >= c->limit) {
        if (c->oldest->prepared)
            memcpy(evicted, c->oldest->name, sizeof c->oldest->name);
        pg_cache_forget(c, c->oldest);
    }
    *e = (struct pg_cached){.hash = hash, .len = len};
    memcpy(e->sql, sql, len);
    e->sql[len] = '\0';
    name_entry(c, e);
    e->chain = c->bucket[hash % BUCKETS];
    c->bucket[hash % BUCKETS] = e;
    link_newest(c, e);
    c->count++;
    return e;
}

void pg_cache_defer_close(struct pg_cache *c, const char name[40])
{
    if (c->n_deferred == c->cap_deferred) {
        uint32_t cap = c->cap_deferred ? c->cap_deferred * 2 : 8;
        void *list = realloc(c->deferred, cap * sizeof *c->deferred);
        if (!list)
            return; /* the server keeps this statement until the connection closes */
        c->deferred = list;
        c->cap_deferred = cap;
    }
    memcpy(c->deferred[c->n_deferred++], name, sizeof *c->deferred);
}
