#include "pg/copy_end.h"

#include <string.h>

void copy_end_begin(struct copy_end *e, bool csv, char quote, char escape)
{
    *e = (struct copy_end){.csv = csv, .quote = quote, .escape = escape == quote ? '\0' : escape};
}

static bool is_break(char c)
{
    return c == '\n' || c == '\r';
}

/* ---- byte by byte ---- */

static void count_break(struct copy_end *e, char c)
{
    if (c == '\r' || (c == '\n' && !e->returned))
        e->breaks++;
    e->returned = c == '\r';
}

static void end_line(struct copy_end *e)
{
    e->line = e->breaks;
    e->at = e->at == COPY_END_DOT ? COPY_END_OVER : COPY_END_LINE;
}

/* In quotes a line break is data. */
static void note_quotes(struct copy_end *e, char c)
{
    if (e->quoted && e->escape && c == e->escape)
        e->escaped = !e->escaped;
    if (c == e->quote && !e->escaped)
        e->quoted = !e->quoted;
    if (c != e->escape)
        e->escaped = false;
}

static enum copy_end_at next(const struct copy_end *e, char c)
{
    if (e->at == COPY_END_BACKSLASH) /* text format: an escaped character, unless it is a dot */
        return c == '.' ? COPY_END_DOT : COPY_END_IN;
    return c == '\\' && (e->at == COPY_END_LINE || !e->csv) ? COPY_END_BACKSLASH : COPY_END_IN;
}

static void take(struct copy_end *e, char c)
{
    if (e->csv)
        note_quotes(e, c);
    count_break(e, c);
    if (is_break(c) && !e->quoted)
        end_line(e);
    else
        e->at = next(e, c);
}

/* ---- bytes that cannot be part of the marker ---- */

static size_t count(const char *data, size_t len, char c)
{
    size_t n = 0;
    const char *end = data + len;
    while (data < end && (data = memchr(data, c, (size_t)(end - data)))) {
        n++;
        data++;
    }
    return n;
}

/* Skips bytes without a backslash or a quote. Lines end with '\r' when there is no '\n'. */
static void pass(struct copy_end *e, const char *data, size_t len)
{
    size_t breaks = count(data, len, '\n');
    char last = data[len - 1];
    if (data[0] == '\n' && e->returned)
        breaks--;
    else if (breaks == 0)
        breaks = count(data, len, '\r');
    e->breaks += breaks;
    e->returned = last == '\r';
    e->escaped = false;
    e->at = is_break(last) && !e->quoted ? COPY_END_LINE : COPY_END_IN;
    if (e->at == COPY_END_LINE)
        e->line = e->breaks;
}

/* The position of the next `c`, searched for only when the last one found was passed. */
static const char *ahead(const char **known, const char *data, const char *end, char c)
{
    if (!*known || *known < data) {
        *known = memchr(data, c, (size_t)(end - data));
        if (!*known)
            *known = end;
    }
    return *known;
}

bool copy_end_feed(struct copy_end *e, const char *data, size_t len)
{
    const char *const end = data + len;
    const char *backslash = NULL, *quote = NULL, *escape = NULL;
    while (data < end) {
        if (e->at == COPY_END_OVER) {
            if (!is_break(*data++))
                return false;
            continue;
        }
        const char *stop = ahead(&backslash, data, end, '\\');
        if (e->csv && ahead(&quote, data, end, e->quote) < stop)
            stop = quote;
        if (e->escape && ahead(&escape, data, end, e->escape) < stop)
            stop = escape;
        if (stop > data && e->at < COPY_END_BACKSLASH) {
            pass(e, data, (size_t)(stop - data));
            data = stop;
        } else {
            take(e, *data++);
        }
    }
    return true;
}
