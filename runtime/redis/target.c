#include "redis/target.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_PORT = 6379 };

struct redis_target *redis_target_new(void)
{
    struct redis_target *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->port = DEFAULT_PORT;
    t->verify = true;
    t->verify_hostname = true;
    t->refs = 1;
    return t;
}

bool redis_target_set(struct redis_target *t, enum redis_text which, const char *text)
{
    char *copy = text ? strdup(text) : NULL;
    if (text && !copy)
        return false;
    free(t->text[which]);
    t->text[which] = copy;
    return true;
}

static size_t count_sentinels(const struct redis_target *t)
{
    size_t n = 0;
    while (t->sentinels && t->sentinels[n])
        n++;
    return n;
}

bool redis_target_add_sentinel(struct redis_target *t, const char *host, uint16_t port)
{
    size_t n = count_sentinels(t);
    struct redis_target **list = realloc(t->sentinels, (n + 2) * sizeof *list);
    if (!list)
        return false;
    t->sentinels = list;
    list[n + 1] = NULL;
    list[n] = redis_target_new();
    if (!list[n] || !redis_target_set(list[n], REDIS_HOST, host))
        return false;
    list[n]->port = port;
    return true;
}

/* A copy of the first `texts` texts and of the TLS settings. */
static struct redis_target *copy(const struct redis_target *t, enum redis_text texts)
{
    struct redis_target *to = redis_target_new();
    for (int i = 0; to && i < (int)texts; i++) {
        if (!redis_target_set(to, (enum redis_text)i, t->text[i])) {
            redis_target_unref(to);
            return NULL;
        }
    }
    if (!to)
        return NULL;
    to->port = t->port;
    to->tls = t->tls;
    to->tls13 = t->tls13;
    to->verify = t->verify;
    to->verify_hostname = t->verify_hostname;
    to->sentinel_tls = t->sentinel_tls;
    to->bare = t->bare;
    return to;
}

struct redis_target *redis_target_at(struct redis_target *t, const char *host, uint16_t port)
{
    struct redis_target *at = copy(t, REDIS_SERVICE);
    if (!at)
        return NULL;
    at->origin = redis_target_ref(t);
    at->port = port;
    at->db = t->db;
    at->read_replica = t->read_replica;
    at->no_evict = t->no_evict;
    at->no_touch = t->no_touch;
    if (redis_target_set(at, REDIS_HOST, host) && redis_target_seal(at))
        return at;
    redis_target_unref(at);
    return NULL;
}

void redis_target_tell(struct redis_target *t, const char *code)
{
    for (; t; t = t->origin)
        t->waits_for = code;
}

struct redis_target *redis_target_bare(const struct redis_target *t)
{
    struct redis_target *bare = copy(t, REDIS_TEXTS);
    size_t n = count_sentinels(t);
    if (!bare)
        return NULL;
    bare->bare = true;
    bare->good_sentinel = t->good_sentinel;
    bare->label = strdup(t->label);
    bare->sentinels = t->sentinels ? calloc(n + 1, sizeof(struct redis_target *)) : NULL;
    if (!bare->label || (t->sentinels && !bare->sentinels)) {
        redis_target_unref(bare);
        return NULL;
    }
    for (size_t i = 0; i < n; i++)
        bare->sentinels[i] = redis_target_ref(t->sentinels[i]);
    return bare;
}

/* Sets the server's TLS settings, and the sentinels' own user and password, on a sentinel. */
static bool seal_sentinel(const struct redis_target *t, struct redis_target *s)
{
    static const enum redis_text shared[] = {REDIS_CA_FILE,  REDIS_CA_DIR,   REDIS_CERT_FILE,
                                             REDIS_KEY_FILE, REDIS_LIB_NAME, REDIS_LIB_VERSION};
    for (size_t i = 0; i < sizeof shared / sizeof *shared; i++)
        if (!redis_target_set(s, shared[i], t->text[shared[i]]))
            return false;
    s->is_sentinel = true;
    s->tls = t->sentinel_tls;
    s->tls13 = t->tls13;
    s->verify = t->verify;
    s->verify_hostname = t->verify_hostname;
    return redis_target_set(s, REDIS_USERNAME, t->text[REDIS_SENTINEL_USERNAME]) &&
           redis_target_set(s, REDIS_PASSWORD, t->text[REDIS_SENTINEL_PASSWORD]) && redis_target_seal(s);
}

bool redis_target_seal(struct redis_target *t)
{
    const char *host = t->text[REDIS_HOST] ? t->text[REDIS_HOST] : "127.0.0.1";
    char *label = NULL;
    int n;
    for (size_t i = 0; t->sentinels && t->sentinels[i]; i++)
        if (!seal_sentinel(t, t->sentinels[i]))
            return false;
    if (t->sentinels)
        n = asprintf(&label, "sentinel service %s", t->text[REDIS_SERVICE]);
    else if (t->text[REDIS_PATH])
        n = asprintf(&label, "%s", t->text[REDIS_PATH]);
    else
        n = asprintf(&label, strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, (unsigned)t->port);
    if (n < 0)
        return false;
    free(t->label);
    t->label = label;
    return true;
}

struct redis_target *redis_target_ref(struct redis_target *t)
{
    t->refs++;
    return t;
}

void redis_target_unref(struct redis_target *t)
{
    if (!t || --t->refs > 0)
        return;
    for (size_t i = 0; t->sentinels && t->sentinels[i]; i++)
        redis_target_unref(t->sentinels[i]);
    free(t->sentinels);
    redis_target_unref(t->origin);
    if (t->text[REDIS_PASSWORD])
        explicit_bzero(t->text[REDIS_PASSWORD], strlen(t->text[REDIS_PASSWORD]));
    if (t->text[REDIS_SENTINEL_PASSWORD])
        explicit_bzero(t->text[REDIS_SENTINEL_PASSWORD], strlen(t->text[REDIS_SENTINEL_PASSWORD]));
    for (int i = 0; i < REDIS_TEXTS; i++)
        free(t->text[i]);
    free(t->label);
    free(t);
}
