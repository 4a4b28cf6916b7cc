#include "base/secrets.h"

#include "base/number.h"
#include "base/text.h"

#include <stdlib.h>
#include <string.h>

enum { MIN_SECRET = 4, SHORT_WORD = 8 };
static const char stars[] = "***";
static const char password[] = "password";

struct secret {
    char *text;
    size_t len;
};

/* What a byte can begin: a secret, in any spelling, or a place that holds one. Most texts contain few such
 * bytes, which makes masking fast. */
enum { SECRET = 1, PLACE = 2 };
static const unsigned char places[256] = {[':'] = PLACE, ['p'] = PLACE, ['P'] = PLACE}; /* "password" */

struct secrets {
    struct secret *list;
    size_t n;
    unsigned char begins[256];
};

struct secrets *secrets_new(void)
{
    struct secrets *s = calloc(1, sizeof *s);
    if (s)
        memcpy(s->begins, places, sizeof places);
    return s;
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
    s->list[s->n++] = (struct secret){text, len};
    s->begins[(unsigned char)text[0]] |= SECRET;
    s->begins['%'] |= SECRET;
    s->begins['\\'] |= SECRET;
    return true;
}

/* ---- characters, the same in every locale ---- */

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_quote(char c)
{
    return c == '\'' || c == '"' || c == '`';
}

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* ---- known secrets ---- */

/* How a text can spell a byte: unchanged; as %XX in URLs; after a backslash in keyword strings and JSON; a
 * quote doubled, as in SQL. */
enum spelling { PLAIN, PERCENT, BACKSLASH, DOUBLED, SPELLINGS };

/* The next byte of the text in this spelling; *n is how many characters it takes. */
static char spelled(const char *text, size_t len, enum spelling how, size_t *n)
{
    *n = 1;
    if (how == PERCENT && len >= 3 && text[0] == '%' && hex_digit(text[1]) >= 0 && hex_digit(text[2]) >= 0) {
        *n = 3;
        return (char)(hex_digit(text[1]) * 16 + hex_digit(text[2]));
    }
    if (how == BACKSLASH && len >= 2 && text[0] == '\\') {
        *n = 2;
        return text[1];
    }
    if (how == DOUBLED && len >= 2 && text[0] == '\'' && text[1] == '\'')
        *n = 2;
    return text[0];
}

/* Length of the text when it spells `secret`, else 0. */
static size_t matches(const char *text, size_t len, const struct secret *secret, enum spelling how)
{
    size_t at = 0;
    for (size_t i = 0; i < secret->len; i++) {
        size_t n;
        if (at == len || spelled(text + at, len - at, how, &n) != secret->text[i])
            return 0;
        at += n;
    }
    return at;
}

/* True for a short lower-case word, which can be part of another word ("test" in "latest"): masking it there
 * makes the text unreadable and hides nothing. */
static bool whole_words_only(const struct secret *secret)
{
    if (secret->len >= SHORT_WORD)
        return false;
    for (size_t i = 0; i < secret->len; i++)
        if (secret->text[i] < 'a' || secret->text[i] > 'z')
            return false;
    return true;
}

/* Length of the longest secret at text[at], or 0. */
static size_t known_at(const struct secrets *s, const char *text, size_t len, size_t at)
{
    size_t longest = 0;
    for (size_t i = 0; i < s->n; i++) {
        for (int how = PLAIN; how < SPELLINGS; how++) {
            size_t n = matches(text + at, len - at, &s->list[i], (enum spelling)how);
            if (n <= longest)
                continue;
            bool inside = (at > 0 && is_word(text[at - 1])) || (at + n < len && is_word(text[at + n]));
            if (!(inside && whole_words_only(&s->list[i])))
                longest = n;
        }
    }
    return longest;
}

/* ---- places that hold secrets ---- */

/* True when the quote ends a value, and is not part of a password. */
static bool closes(const char *text, size_t len, size_t at)
{
    return is_quote(text[at]) && (at + 1 == len || !is_word(text[at + 1]));
}

/* True when text[from..to) could be what follows the '@' of a URL. */
static bool like_host(const char *text, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        if (is_quote(text[i]) || is_space(text[i]))
            return false;
    return to > from;
}

static bool is_port(const char *text, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        if (text[i] == '/' || text[i] == '?' || text[i] == ',')
            return i > from;
        if (text[i] < '0' || text[i] > '9')
            return false;
    }
    return to > from;
}

/* After "://": the span of the password in "user:password@". A password that is not %-encoded can contain
 * '@', '/', quotes, even spaces, so it ends at the last '@' of the line that is followed by something like a
 * host. Masking too much is better than too little. */
static bool url_password(const char *text, size_t len, size_t *from, size_t *to)
{
    size_t colon = 0;
    while (colon < len && text[colon] != ':') {
        if (strchr("/@[", text[colon]) || is_space(text[colon]) || closes(text, len, colon))
            return false; /* no password */
        colon++;
    }
    size_t at = len;
    bool past_space = false;
    for (size_t i = colon + 1; i < len && text[i] != '\n'; i++) {
        if (text[i] == '@')
            at = i;
        if (past_space && text[i] == ':' && len - i > 3 && memcmp(text + i, "://", 3) == 0)
            break; /* another URL */
        if (!is_space(text[i]) && !closes(text, len, i))
            continue;
        if (at < len ? like_host(text, at + 1, i) : is_port(text, colon + 1, i))
            break;
        past_space = true;
    }
    if (at == len || at == colon + 1)
        return false;
    *from = colon + 1;
    *to = at;
    return true;
}

/* Length of a quoted value, quotes included; a quote inside is doubled or follows a backslash. */
static size_t quoted_value(const char *text, size_t len)
{
    char quote = text[0];
    for (size_t i = 1; i < len; i++) {
        if (text[i] == '\\')
            i++;
        else if (text[i] == quote && (i + 1 == len || text[i + 1] != quote))
            return i + 1;
        else if (text[i] == quote)
            i++;
    }
    return len;
}

/* Length of an unquoted value: up to white space, or in a URL up to the next parameter. */
static size_t bare_value(const char *text, size_t len, bool in_url)
{
    size_t i = 0;
    while (i < len && !is_space(text[i]) && !closes(text, len, i) && !(in_url && text[i] == '&'))
        i += text[i] == '\\' ? 2 : 1;
    return i < len ? i : len;
}

static size_t skip_blanks(const char *text, size_t len, size_t i)
{
    while (i < len && (text[i] == ' ' || text[i] == '\t'))
        i++;
    return i;
}

/* Skips blanks, line ends and SQL comments. */
static size_t skip_sql_gap(const char *text, size_t len, size_t i)
{
    for (;;) {
        const char *end = NULL;
        if (i < len && is_space(text[i])) {
            i++;
            continue;
        }
        if (len - i < 2 || (memcmp(text + i, "--", 2) != 0 && memcmp(text + i, "/*", 2) != 0))
            return i;
        if (text[i] == '-' && (end = memchr(text + i, '\n', len - i)))
            i = (size_t)(end - text) + 1;
        else if (text[i] == '/' && (end = memmem(text + i + 2, len - i - 2, "*/", 2)))
            i = (size_t)(end - text) + 2;
        else
            return len;
    }
}

/* Length of the prefix of an SQL string: E, N, B, X or U& before a quote. */
static size_t string_prefix(const char *text, size_t len)
{
    if (len >= 2 && strchr("EeNnBbXx", text[0]) && text[0] != '\0' && text[1] == '\'')
        return 1;
    return len >= 3 && (text[0] == 'U' || text[0] == 'u') && text[1] == '&' && text[2] == '\'' ? 2 : 0;
}

/* Length of the "$tag$" that the text begins with, or 0. */
static size_t dollar_tag(const char *text, size_t len)
{
    size_t i = 1;
    if (len < 2 || text[0] != '$' || (text[1] >= '0' && text[1] <= '9'))
        return 0;
    while (i < len && (is_word(text[i]) || (unsigned char)text[i] >= 0x80))
        i++;
    return i < len && text[i] == '$' ? i + 1 : 0;
}

/* Length of a value that ends as it begins: between two tags, or between doubled quotes, as in an SQL string
 * that contains a connection string. */
static size_t between(const char *text, size_t len, size_t tag)
{
    const char *end = memmem(text + tag, len - tag, text, tag);
    return end ? (size_t)(end - text) + tag : len;
}

/* At the word "password": the position of its value, in "password = value", "password":"value" and SQL's
 * PASSWORD 'value'; `len` when no value follows. */
static size_t value_of_password(const char *text, size_t len)
{
    size_t i = sizeof password - 1;
    bool json = i < len && text[i] == '"';
    i += json;
    size_t j = skip_blanks(text, len, i);
    if (j < len && (text[j] == '=' || (json && text[j] == ':')))
        return skip_blanks(text, len, j + 1);
    j = skip_sql_gap(text, len, i);
    j += string_prefix(text + j, len - j);
    if (j == len || j == i)
        return len;
    return text[j] == '\'' || dollar_tag(text + j, len - j) ? j : len;
}

/* Length of the value that begins there. */
static size_t length_of_value(const char *text, size_t len, bool in_url)
{
    size_t tag = dollar_tag(text, len);
    if (tag)
        return between(text, len, tag);
    if (len > 2 && memcmp(text, "''", 2) == 0 && !is_space(text[2]) && !strchr("'),;&]}", text[2]))
        return between(text, len, 2);
    if (len > 0 && (text[0] == '\'' || text[0] == '"'))
        return quoted_value(text, len);
    return bare_value(text, len, in_url);
}

/* ---- masking ---- */

/* A place that begins at text[at]: the secret in it is text[*from, *to). */
static bool place_at(const char *text, size_t len, size_t at, size_t *from, size_t *to)
{
    size_t left = len - at;
    if (left > 3 && memcmp(text + at, "://", 3) == 0 && url_password(text + at + 3, left - 3, from, to)) {
        *from += at + 3;
        *to += at + 3;
        return true;
    }
    if (left < sizeof password || !ascii_begins(text + at, password, sizeof password - 1))
        return false;
    *from = at + value_of_password(text + at, left);
    if (*from == len)
        return false;
    bool in_url = at > 0 && (text[at - 1] == '?' || text[at - 1] == '&');
    *to = *from + length_of_value(text + *from, len - *from, in_url);
    return *to > *from;
}

/* The position of the first byte, from text[at] on, that can begin anything; `len`: none. For places two
 * bytes are compared ("pa", ":/"), because many words begin with p. */
static size_t next_beginning(const unsigned char begins[256], const char *text, size_t len, size_t at)
{
    for (; at < len; at++) {
        unsigned what = begins[(unsigned char)text[at]];
        if (what & SECRET)
            return at;
        char second = what & PLACE && at + 1 < len ? text[at + 1] : '\0';
        if (second == 'a' || second == 'A' || second == '/')
            return at;
    }
    return len;
}

bool secrets_mask(const struct secrets *s, const char *text, size_t len, struct buf *out)
{
    const unsigned char *begins = s ? s->begins : places;
    size_t from = 0; /* the last place seen; a secret may begin before it */
    size_t to = 0;
    size_t done = 0;
    for (size_t at = 0; at < len;) {
        if (at >= to)
            at = next_beginning(begins, text, len, at);
        if (at == len)
            break;
        unsigned what = begins[(unsigned char)text[at]];
        size_t end = at + (what & SECRET ? known_at(s, text, len, at) : 0);
        if (at >= to && (what & PLACE))
            place_at(text, len, at, &from, &to);
        if (at >= from && end < to)
            end = to;
        if (end == at) {
            at++;
            continue;
        }
        buf_add(out, text + done, at - done);
        buf_adds(out, stars);
        at = done = end;
        if (at > from && at < to)
            at = done = to; /* a secret overlaps a place: one mask covers both */
    }
    buf_add(out, text + done, len - done);
    return !out->oom;
}

bool error_mask(struct error *e, const struct secrets *s)
{
    struct buf out = {0};
    struct error masked = {0};
    bool ok = secrets_mask(s, e->message, strlen(e->message), &out);
    if (ok)
        error_set(&masked, e->kind, "%s", out.data ? out.data : "");
    for (int f = 0; ok && f < ERROR_FIELDS; f++) {
        if (!e->field[f])
            continue;
        buf_clear(&out);
        ok = secrets_mask(s, e->field[f], strlen(e->field[f]), &out);
        error_set_field(&masked, (enum error_field)f, out.data);
    }
    buf_free(&out);
    masked.outcome = e->outcome;
    masked.retryable = e->retryable;
    masked.position = e->position;
    masked.column = e->column;
    if (ok)
        error_move(e, &masked);
    error_clear(&masked);
    return ok;
}
