/* Writes numeric in its binary form: digits in base 10000 (set_var_from_str, numeric_recv in numeric.c). */
#include "base/number.h"
#include "pg/copyfmt.h"
#include "pg/wire.h"

enum {
    NUMERIC_POSITIVE = 0,
    NUMERIC_NEGATIVE = 0x4000,
    NUMERIC_NAN = 0xC000,
    NUMERIC_PINF = 0xD000,
    NUMERIC_NINF = 0xF000,
    MOST_INTEGER_DIGITS = 131072,
    MOST_SCALE = 16383,
};

static enum copyfmt_result put_numeric_head(struct buf *b, int ndigits, int weight, int sign, int scale)
{
    if (!buf_reserve(b, 12 + (size_t)ndigits * 2))
        return COPYFMT_OOM;
    wire_put4(b, 8 + (uint32_t)ndigits * 2);
    wire_put2(b, (uint16_t)ndigits);
    wire_put2(b, (uint16_t)weight);
    wire_put2(b, (uint16_t)sign);
    wire_put2(b, (uint16_t)scale);
    return COPYFMT_OK;
}

/* The number is 0.d1d2d3... times ten to the power of `point`. */
struct decimal {
    const char *s; /* the digits and at most one '.' */
    size_t n;      /* number of digits */
    size_t dot;    /* number of digits before the '.' */
    long point;
    int sign;
    long scale;
};

static int digit_at(const struct decimal *d, size_t i)
{
    return d->s[i < d->dot ? i : i + 1] - '0';
}

/* Writes NaN, Infinity or -Infinity; false when the text is none of these. */
static bool special_from(struct buf *b, const char *s, size_t len, enum copyfmt_result *result)
{
    bool negative = len > 0 && s[0] == '-';
    size_t skip = len > 0 && (s[0] == '-' || s[0] == '+') ? 1 : 0;
    if (ascii_is_word(s, len, "nan"))
        *result = put_numeric_head(b, 0, 0, NUMERIC_NAN, 0);
    else if (ascii_is_word(s + skip, len - skip, "infinity") || ascii_is_word(s + skip, len - skip, "inf"))
        *result = put_numeric_head(b, 0, 0, negative ? NUMERIC_NINF : NUMERIC_PINF, 0);
    else
        return false;
    return true;
}

static bool read_exponent(const char *s, size_t len, long *exponent)
{
    bool negative = len > 0 && s[0] == '-';
    size_t i = len > 0 && (s[0] == '-' || s[0] == '+') ? 1 : 0;
    long v = 0;
    if (i == len)
        return false;
    for (; i < len; i++) {
        if (s[i] < '0' || s[i] > '9')
            return false;
        if (v < 1000000)
            v = v * 10 + (s[i] - '0');
    }
    *exponent = negative ? -v : v;
    return true;
}

static enum copyfmt_result read_decimal(const char *s, size_t len, struct decimal *d)
{
    size_t i = 0;
    bool dotted = false;
    long exponent = 0;
    *d = (struct decimal){.sign = NUMERIC_POSITIVE};
    if (len > 0 && (s[0] == '-' || s[0] == '+')) {
        d->sign = s[0] == '-' ? NUMERIC_NEGATIVE : NUMERIC_POSITIVE;
        i++;
    }
    d->s = s + i;
    for (; i < len && (ascii_is_digit(s[i]) || (s[i] == '.' && !dotted)); i++) {
        if (s[i] == '.') {
            dotted = true;
            d->dot = d->n;
        } else {
            d->n++;
        }
    }
    if (!dotted)
        d->dot = d->n;
    if (d->n == 0)
        return COPYFMT_INVALID;
    if (i < len && (s[i] == 'e' || s[i] == 'E')) {
        if (!read_exponent(s + i + 1, len - i - 1, &exponent))
            return COPYFMT_INVALID;
        i = len;
    }
    if (i < len)
        return COPYFMT_INVALID;
    d->point = (long)d->dot + exponent;
    d->scale = (long)(d->n - d->dot) - exponent;
    if (d->scale < 0)
        d->scale = 0;
    return d->point > MOST_INTEGER_DIGITS || d->scale > MOST_SCALE ? COPYFMT_RANGE : COPYFMT_OK;
}

enum copyfmt_result copyfmt_numeric(struct buf *b, const char *s, size_t len)
{
    struct decimal d;
    enum copyfmt_result result;
    wire_trim(&s, &len);
    if (special_from(b, s, len, &result))
        return result;
    result = read_decimal(s, len, &d);
    if (result != COPYFMT_OK)
        return result;
    size_t first = 0;
    size_t end = d.n;
    while (first < end && digit_at(&d, first) == 0)
        first++;
    while (end > first && digit_at(&d, end - 1) == 0)
        end--;
    if (first == end)
        return put_numeric_head(b, 0, 0, NUMERIC_POSITIVE, (int)d.scale);
    /* A base-10000 digit holds four decimal digits, counted from the decimal point: so the first decimal
     * digit may be anywhere in its group. */
    long point = d.point - (long)first;
    long weight = point > 0 ? (point - 1) / 4 : (point - 4) / 4;
    long lead = (weight + 1) * 4 - point; /* zeros before the first digit, in its group */
    size_t ndigits = (size_t)((long)(end - first) + lead + 3) / 4;
    result = put_numeric_head(b, (int)ndigits, (int)weight, d.sign, (int)d.scale);
    if (result != COPYFMT_OK)
        return result;
    long at = (long)first - lead;
    for (size_t g = 0; g < ndigits; g++) {
        int group = 0;
        for (int k = 0; k < 4; k++, at++)
            group = group * 10 + (at >= (long)first && at < (long)end ? digit_at(&d, (size_t)at) : 0);
        wire_put2(b, (uint16_t)group);
    }
    return COPYFMT_OK;
}
