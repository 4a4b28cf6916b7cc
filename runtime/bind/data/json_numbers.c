#include "bind/data/json_numbers.h"
#include "base/number.h"

#include <math.h>
#include <string.h>

/* An integer of fewer digits fits into 64 bits; a float holds this many digits. */
enum { SAFE_DIGITS = 18, FLOAT_DIGITS = 15, LONGEST = 64 };

size_t json_numbers_room(size_t len)
{
    return len + len / FLOAT_DIGITS * 2 + 16;
}

static bool is_of_number(char c)
{
    return ascii_is_digit(c) || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
}

/* A decimal number: its digits without leading and trailing zeros, and the position of the point. */
struct decimal {
    char digits[LONGEST];
    size_t n;
    long point;
};

/* False when it has too many digits. */
static bool read_decimal(const char *s, size_t len, struct decimal *d)
{
    bool fraction = false;
    *d = (struct decimal){.n = 0};
    size_t i = 0;
    for (; i < len && s[i] != 'e' && s[i] != 'E'; i++) {
        if (s[i] == '.')
            fraction = true;
        if (!ascii_is_digit(s[i]))
            continue;
        bool leading = d->n == 0 && s[i] == '0';
        if (!leading && d->n == LONGEST)
            return false;
        if (!leading)
            d->digits[d->n++] = s[i];
        if (!fraction && !leading)
            d->point++;
        if (fraction && leading)
            d->point--;
    }
    char exponent[24] = "0";
    if (i + 1 < len) {
        size_t n = len - i - 1;
        if (n >= sizeof exponent)
            return false;
        memcpy(exponent, s + i + 1, n);
        exponent[n] = '\0';
    }
    d->point += (long)number_int(exponent);
    while (d->n > 0 && d->digits[d->n - 1] == '0')
        d->n--;
    if (d->n == 0)
        d->point = 0;
    return true;
}

/* True when the float closest to the text prints with the same digits. */
static bool is_exact(const char *s, size_t len)
{
    struct decimal given;
    struct decimal back;
    char text[NUMBER_MAX];
    double v = number_parse(s, NULL);
    if (!isfinite(v) || !read_decimal(s, len, &given))
        return false;
    size_t n = number_format(text, v);
    return read_decimal(text, n, &back) && given.n == back.n && given.point == back.point &&
           memcmp(given.digits, back.digits, given.n) == 0;
}

static bool is_beyond_int64(const char *s, size_t len)
{
    char text[LONGEST];
    int64_t v;
    if (len <= SAFE_DIGITS)
        return false;
    if (len >= sizeof text)
        return true;
    memcpy(text, s, len);
    text[len] = '\0';
    return !number_parse_int(text, &v);
}

/* How to rewrite the number: '"' as a string, 'e' as a float, 0 = unchanged. */
static char mark_of(const char *s, size_t len, bool exact)
{
    bool is_integer = !memchr(s, '.', len) && !memchr(s, 'e', len) && !memchr(s, 'E', len);
    if (is_integer && !is_beyond_int64(s, len))
        return 0;
    if (exact)
        return is_integer || !is_exact(s, len) ? '"' : 0;
    return is_integer ? 'e' : 0;
}

static size_t string_end(const char *text, size_t len, size_t at)
{
    for (at++; at < len && text[at] != '"'; at++)
        if (text[at] == '\\')
            at++;
    return at < len ? at + 1 : len;
}

bool json_numbers_rewrite(const char *text, size_t len, bool exact, char *out, size_t *out_len)
{
    bool changed = false;
    size_t n = 0;
    for (size_t at = 0; at < len;) {
        size_t end = at + 1;
        char mark = 0;
        if (text[at] == '"') {
            end = string_end(text, len, at);
        } else if (text[at] == '-' || ascii_is_digit(text[at])) {
            while (end < len && is_of_number(text[end]))
                end++;
            mark = mark_of(text + at, end - at, exact);
        }
        if (mark == '"')
            out[n++] = '"';
        memcpy(out + n, text + at, end - at);
        n += end - at;
        if (mark == '"')
            out[n++] = '"';
        if (mark == 'e') {
            out[n++] = 'e';
            out[n++] = '0';
        }
        changed = changed || mark != 0;
        at = end;
    }
    *out_len = n;
    return changed;
}
