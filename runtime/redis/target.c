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

bool redis_target_seal(struct redis_target *t)
{
    const char *host = t->text[REDIS_HOST] ? t->text[REDIS_HOST] : "127.0.0.1";
    char *label = NULL;
    int n;
    if (t->text[REDIS_PATH])
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
    if (t->text[REDIS_PASSWORD])
        explicit_bzero(t->text[REDIS_PASSWORD], strlen(t->text[REDIS_PASSWORD]));
    for (int i = 0; i < REDIS_TEXTS; i++)
        free(t->text[i]);
    free(t->label);
    free(t);
}
