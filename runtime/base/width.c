#include "base/width.h"

#include "base/printable.h"
#include "base/text.h"
#include "base/width_table.h"

#include <stdbool.h>

enum { ZERO_WIDTH_JOINER = 0x200d, EMOJI_PRESENTATION = 0xfe0f };

static bool is_in(unsigned code, const struct width_range *ranges, size_t n)
{
    size_t low = 0;
    while (low < n) {
        size_t middle = low + (n - low) / 2;
        if (code > ranges[middle].last)
            low = middle + 1;
        else if (code < ranges[middle].first)
            n = middle;
        else
            return true;
    }
    return false;
}

#define IS_IN(code, ranges) is_in(code, ranges, ranges##_count)

/* The character of a well-formed sequence of `n` bytes. */
static unsigned decode(const char *text, size_t n)
{
    const unsigned char *s = (const unsigned char *)text;
    unsigned code = n == 1 ? s[0] : s[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++)
        code = code << 6 | (s[i] & 0x3fu);
    return code;
}

static bool is_plain(char c)
{
    return c >= 0x20 && c < 0x7f;
}

static bool is_flag_letter(unsigned code)
{
    return code >= 0x1f1e6 && code <= 0x1f1ff;
}

static bool is_modifier(unsigned code)
{
    return code >= 0x1f3fb && code <= 0x1f3ff;
}

/* Columns of the escape for an unprintable character at the start of `text`; 0 when it is printable. */
static size_t escape_columns(const char *text, size_t n)
{
    if (n == 0)
        return 4; /* \xNN */
    if (text[0] == '\n' || text[0] == '\r' || text[0] == '\t')
        return 2;
    if (text[0] == '\0')
        return 4;
    if (!printable_control(text, n))
        return 0;
    return n == 1 ? 4 : 6; /* \xNN or \uNNNN */
}

static size_t columns_of(unsigned code)
{
    if (code < 0x300)
        return 1;
    return IS_IN(code, width_zero) ? 0 : IS_IN(code, width_wide) ? 2 : 1;
}

/* The part of one visible character that was read so far. */
struct seen {
    unsigned last; /* the last character that is not a mark */
    bool joined;   /* a joiner precedes the next character */
    size_t columns;
};

/* True when `code` belongs to the visible character; then adds it. */
static bool joins(struct seen *seen, unsigned code)
{
    bool joined = seen->joined;
    seen->joined = false;
    if (code == EMOJI_PRESENTATION && seen->columns == 1 && IS_IN(seen->last, width_emoji) &&
        !is_flag_letter(seen->last)) {
        seen->columns = 2;
        return true;
    }
    if (code >= 0x300 && IS_IN(code, width_zero)) {
        seen->joined = code == ZERO_WIDTH_JOINER && seen->columns == 2 && IS_IN(seen->last, width_emoji);
        return true;
    }
    if (is_flag_letter(code) && is_flag_letter(seen->last) && seen->columns == 1) {
        seen->columns = 2;
        return true;
    }
    bool coloured = is_modifier(code) && IS_IN(seen->last, width_modifier_base);
    if (!coloured && !(joined && code > 0xff && IS_IN(code, width_emoji)))
        return false;
    seen->last = code;
    seen->columns = 2;
    return true;
}

size_t width_next(const char *text, size_t len, size_t *columns)
{
    if (is_plain(text[0]) && (len == 1 || is_plain(text[1]))) {
        *columns = 1;
        return 1;
    }
    size_t n = utf8_len(text, len);
    *columns = escape_columns(text, n);
    if (*columns > 0)
        return n > 0 ? n : 1;
    struct seen seen = {.last = decode(text, n)};
    seen.columns = columns_of(seen.last);
    size_t at = n;
    while (at < len && (unsigned char)text[at] >= 0xc0) {
        n = utf8_len(text + at, len - at);
        if (n == 0 || printable_control(text + at, n) || !joins(&seen, decode(text + at, n)))
            break;
        at += n;
    }
    *columns = seen.columns;
    return at;
}

size_t width_of(const char *text, size_t len)
{
    size_t columns;
    width_fit(text, len, (size_t)-1, &columns);
    return columns;
}

size_t width_fit(const char *text, size_t len, size_t most, size_t *columns)
{
    size_t at = 0;
    *columns = 0;
    while (at < len) {
        size_t own;
        size_t n = width_next(text + at, len - at, &own);
        if (own > most - *columns)
            break;
        at += n;
        *columns += own;
    }
    return at;
}
