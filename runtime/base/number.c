#include "base/number.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The C library keeps this locale ready: the call allocates nothing and cannot fail. */
static locale_t c_locale(void)
{
    return newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

locale_t number_locale_begin(void)
{
    return uselocale(c_locale());
}

void number_locale_end(locale_t before)
{
    uselocale(before);
}

double number_parse(const char *text, char **end)
{
    return strtod_l(text, end, c_locale());
}

float number_parse_float(const char *text, char **end)
{
    return strtof_l(text, end, c_locale());
}

size_t number_format(char out[NUMBER_MAX], double v)
{
    locale_t before = number_locale_begin();
    int n = 0;
    for (int digits = 15; digits <= 17; digits++) {
        n = snprintf(out, NUMBER_MAX, "%.*g", digits, v);
        double back = strtod(out, NULL);
        if (memcmp(&back, &v, sizeof v) == 0)
            break;
    }
    number_locale_end(before);
    return (size_t)n;
}

bool number_parse_int(const char *text, int64_t *v)
{
    bool negative = text[0] == '-';
    const char *p = text + (negative || text[0] == '+');
    int64_t n = 0; /* kept negative, because INT64_MIN has no positive counterpart */
    if (!ascii_is_digit(*p))
        return false;
    for (; ascii_is_digit(*p); p++)
        if (__builtin_mul_overflow(n, 10, &n) || __builtin_sub_overflow(n, *p - '0', &n))
            return false;
    if (*p || (!negative && n == INT64_MIN))
        return false;
    *v = negative ? n : -n;
    return true;
}

int64_t number_int(const char *text)
{
    int64_t v;
    return number_parse_int(text, &v) ? v : 0;
}

int64_t number_leading(const char *text)
{
    int64_t n = 0;
    for (int i = 0; ascii_is_digit(text[i]); i++)
        n = i < 9 ? n * 10 + (text[i] - '0') : 0;
    return n;
}

bool ascii_begins(const char *text, const char *word, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (ascii_lower(text[i]) != ascii_lower(word[i]) || !text[i])
            return false;
    return true;
}

bool ascii_is_word(const char *text, size_t len, const char *word)
{
    return len == strlen(word) && ascii_begins(text, word, len);
}
