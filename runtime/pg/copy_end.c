#include "pg/copy_end.h"

void copy_end_begin(struct copy_end *e, bool csv, char quote, char escape)
{
    *e = (struct copy_end){.csv = csv, .quote = quote, .escape = escape == quote ? '\0' : escape};
}

static bool is_break(char c)
{
    return c == '\n' || c == '\r';
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
    if (e->at == COPY_END_BACKSLASH) /* of text: an escaped character, if it is no dot */
        return c == '.' ? COPY_END_DOT : COPY_END_IN;
    return c == '\\' && (e->at == COPY_END_LINE || !e->csv) ? COPY_END_BACKSLASH : COPY_END_IN;
}

bool copy_end_feed(struct copy_end *e, const char *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char c = data[i];
        if (e->at == COPY_END_OVER) {
            if (!is_break(c))
                return false;
            continue;
        }
        if (e->csv)
            note_quotes(e, c);
        if (is_break(c) && !(c == '\n' && e->last == '\r'))
            e->breaks++;
        if (is_break(c) && !e->quoted)
            end_line(e);
        else
            e->at = next(e, c);
        e->last = c;
    }
    return true;
}
