#include "base/secrets.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MIN_SECRET = 4 };
static const char stars[] = "***";

struct secret {
    char *text;
    size_t len;
};

struct secrets {
    struct secret *list;
    size_t n;
};

struct secrets *secrets_new(void)
{
    return calloc(1, sizeof(struct secrets));
}

void secrets_free(struct secrets *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->n; i++) {
        explicit_bzero(s->list[i].text, s->list[i].len);
        free(s->list[i].text);
    }
    free(s->list);
    free(s);
}

bool secrets_add(struct secrets *s, const char *secret, size_t len)
{
    if (len < MIN_SECRET)
        return true;
    for (size_t i = 0; i < s->n; i++)
        if (s->list[i].len == len && memcmp(s->list[i].text, secret, len) == 0)
            return true;
    struct secret *list = realloc(s->list, (s->n + 1) * sizeof *list);
    if (!list)
        return false;
    s->list = list;
    char *text = malloc(len);
    if (!text)
        return false;
    memcpy(text, secret, len);
    /* Longest first, so that a secret inside a longer one does not leave the rest behind. */
    size_t at = s->n;
    while (at > 0 && s->list[at - 1].len < len) {
        s->list[at] = s->list[at - 1];
        at--;
    }
    s->list[at] = (struct secret){text, len};
    s->n++;
    return true;
}

/* Length of the secret that starts at text[i], or 0. */
static size_t known_at(const struct secrets *s, const char *text, size_t len)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->list[i].len <= len && memcmp(text, s->list[i].text, s->list[i].len) == 0)
            return s->list[i].len;
    return 0;
}

/* After "://": the span of the password in "user:password@", counted from `text`. An unencoded '@'
 * inside the password is part of it: the last '@' before the path or white space ends it. */
static bool url_password(const char *text, size_t len, size_t *from, size_t *to)
{
    size_t colon = len;
    size_t at = len;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (isspace(c) || c == '"' || c == '\'')
            break;
        if (c == '/' && colon == len)
            break; /* no user part */
        if (c == ':' && colon == len)
            colon = i;
        if (c == '@' && colon < len)
            at = i;
    }
    if (at == len || at == colon + 1)
        return false;
    *from = colon + 1;
    *to = at;
    return true;
}

/* The value after "password=": quoted in '..' or up to white space or '&'. */
static size_t keyword_value(const char *text, size_t len)
{
    size_t i = 0;
    if (i < len && text[i] == '\'') {
        for (i = 1; i < len && text[i] != '\''; i++)
            if (text[i] == '\\')
                i++;
        return i < len ? i + 1 : len;
    }
    while (i < len && !isspace((unsigned char)text[i]) && text[i] != '&' && text[i] != '"')
        i++;
    return i;
}

bool secrets_mask(const struct secrets *s, const char *text, size_t len, struct buf *out)
{
    static const char key[] = "password=";
    for (size_t i = 0; i < len;) {
        size_t left = len - i;
        size_t n = known_at(s, text + i, left);
        if (n) {
            buf_adds(out, stars);
            i += n;
            continue;
        }
        size_t from;
        size_t to;
        if (left > 3 && memcmp(text + i, "://", 3) == 0 && url_password(text + i + 3, left - 3, &from, &to)) {
            buf_add(out, text + i, 3 + from);
            buf_adds(out, stars);
            i += 3 + to;
            continue;
        }
        if (left > sizeof key - 1 && strncasecmp(text + i, key, sizeof key - 1) == 0) {
            buf_add(out, text + i, sizeof key - 1);
            i += sizeof key - 1;
            n = keyword_value(text + i, len - i);
            if (n)
                buf_adds(out, stars);
            i += n;
            continue;
        }
        buf_add(out, text + i, 1);
        i++;
    }
    return !out->oom;
}
