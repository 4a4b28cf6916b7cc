#include "pg/timefmt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define USEC_PER_S   INT64_C(1000000)
#define USEC_PER_DAY (INT64_C(86400) * USEC_PER_S)
/* 4714-11-24 BC and the year 294277: PostgreSQL's limits (src/include/datatype/timestamp.h). */
#define FIRST_TIMESTAMP INT64_C(-211813488000000000)
#define END_TIMESTAMP   INT64_C(9223371331200000000)

struct civil {
    int64_t year; /* astronomical: 0 is 1 BC */
    int month;
    int day;
};

/* Converts days since 2000-01-01 to the proleptic Gregorian calendar, and back. Counts in eras of 400 years,
 * and in years that begin in March, so that the leap day is the last day of its year. */
static struct civil civil_from_days(int64_t days)
{
    int64_t z = days + 730425; /* since 0000-03-01 */
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    struct civil c;
    c.day = (int)(doy - (153 * mp + 2) / 5 + 1);
    c.month = (int)(mp < 10 ? mp + 3 : mp - 9);
    c.year = yoe + era * 400 + (c.month <= 2);
    return c;
}

static int64_t days_from_civil(int64_t year, int month, int day)
{
    int64_t y = year - (month <= 2);
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t yoe = y - era * 400;
    int64_t doy = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    int64_t doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    return era * 146097 + doe - 730425;
}

static char *put_number(char *p, int64_t value, int width)
{
    char digits[24];
    int n = 0;
    do {
        digits[n++] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    while (n < width)
        digits[n++] = '0';
    while (n)
        *p++ = digits[--n];
    return p;
}

/* A number below 100. */
static char *put_two(char *p, unsigned value)
{
    p[0] = (char)('0' + value / 10);
    p[1] = (char)('0' + value % 10);
    return p + 2;
}

static char *put_year(char *p, int64_t year)
{
    if (year > 9999)
        return put_number(p, year, 4);
    p = put_two(p, (unsigned)year / 100);
    return put_two(p, (unsigned)year % 100);
}

static char *put_date(char *p, int64_t days, bool *bc)
{
    struct civil c = civil_from_days(days);
    *bc = c.year <= 0;
    p = put_year(p, *bc ? 1 - c.year : c.year);
    *p++ = '-';
    p = put_two(p, (unsigned)c.month);
    *p++ = '-';
    return put_two(p, (unsigned)c.day);
}

static char *put_time(char *p, int64_t usec)
{
    unsigned s = (unsigned)(usec / USEC_PER_S);
    int64_t fraction = usec % USEC_PER_S;
    p = put_two(p, s / 3600);
    *p++ = ':';
    p = put_two(p, s / 60 % 60);
    *p++ = ':';
    p = put_two(p, s % 60);
    if (fraction) {
        *p++ = '.';
        p = put_number(p, fraction, 6);
        while (p[-1] == '0')
            p--;
    }
    return p;
}

static size_t finish(char *out, char *p)
{
    *p = '\0';
    return (size_t)(p - out);
}

static size_t put_text(char *out, const char *text)
{
    size_t len = strlen(text);
    memcpy(out, text, len + 1);
    return len;
}

size_t timefmt_date(char out[TIMEFMT_MAX], int32_t days)
{
    bool bc;
    if (days == INT32_MAX)
        return put_text(out, "infinity");
    if (days == INT32_MIN)
        return put_text(out, "-infinity");
    char *p = put_date(out, days, &bc);
    if (bc)
        p += put_text(p, " BC");
    return finish(out, p);
}

size_t timefmt_time(char out[TIMEFMT_MAX], int64_t usec)
{
    return finish(out, put_time(out, usec));
}

size_t timefmt_timestamp(char out[TIMEFMT_MAX], int64_t usec, bool utc)
{
    bool bc;
    if (usec == INT64_MAX)
        return put_text(out, "infinity");
    if (usec == INT64_MIN)
        return put_text(out, "-infinity");
    int64_t days = usec / USEC_PER_DAY;
    int64_t rest = usec % USEC_PER_DAY;
    if (rest < 0) {
        rest += USEC_PER_DAY;
        days--;
    }
    char *p = put_date(out, days, &bc);
    *p++ = 'T';
    p = put_time(p, rest);
    if (utc)
        p += put_text(p, "+00:00");
    if (bc)
        p += put_text(p, " BC");
    return finish(out, p);
}

/* ---- reading ---- */

static bool get_number(const char **p, int min_digits, int max_digits, int64_t *value)
{
    int n = 0;
    *value = 0;
    while (n < max_digits && **p >= '0' && **p <= '9') {
        *value = *value * 10 + (*(*p)++ - '0');
        n++;
    }
    return n >= min_digits;
}

static bool get_char(const char **p, char c)
{
    if (**p != c)
        return false;
    (*p)++;
    return true;
}

static bool get_fraction(const char **p, int64_t *usec)
{
    int64_t unit = USEC_PER_S / 10;
    *usec = 0;
    if (**p < '0' || **p > '9')
        return false;
    for (; unit > 0 && **p >= '0' && **p <= '9'; (*p)++) {
        *usec += (**p - '0') * unit;
        unit /= 10;
    }
    return true; /* leaves a seventh digit, which the server would round */
}

/* "+02", "-03:30", "+05:53:28", "Z" or nothing: seconds east of UTC. */
static bool get_zone(const char **p, int64_t *seconds)
{
    int64_t h;
    int64_t m = 0;
    int64_t s = 0;
    *seconds = 0;
    if (get_char(p, 'Z') || (**p != '+' && **p != '-'))
        return true;
    bool west = *(*p)++ == '-';
    if (!get_number(p, 2, 2, &h))
        return false;
    if (get_char(p, ':') && !get_number(p, 2, 2, &m))
        return false;
    if (get_char(p, ':') && !get_number(p, 2, 2, &s))
        return false;
    if (h > 15 || m > 59 || s > 59) /* the server's limits */
        return false;
    *seconds = h * 3600 + m * 60 + s;
    if (west)
        *seconds = -*seconds;
    return true;
}

bool timefmt_parse_timestamp(const char *text, int64_t *usec)
{
    const char *p = text;
    int64_t year;
    int64_t month;
    int64_t day;
    int64_t h = 0;
    int64_t m = 0;
    int64_t s = 0;
    int64_t fraction = 0;
    int64_t zone = 0;
    if (strcmp(text, "infinity") == 0 || strcmp(text, "-infinity") == 0) {
        *usec = text[0] == '-' ? INT64_MIN : INT64_MAX;
        return true;
    }
    if (!get_number(&p, 4, 6, &year) || !get_char(&p, '-') || !get_number(&p, 2, 2, &month) ||
        !get_char(&p, '-') || !get_number(&p, 2, 2, &day))
        return false;
    if ((*p == ' ' && p[1] != 'B') || *p == 'T') {
        p++;
        if (!get_number(&p, 2, 2, &h) || !get_char(&p, ':') || !get_number(&p, 2, 2, &m))
            return false;
        if (get_char(&p, ':') && !get_number(&p, 2, 2, &s))
            return false;
        if (get_char(&p, '.') && !get_fraction(&p, &fraction))
            return false;
        if (!get_zone(&p, &zone))
            return false;
    }
    if (strcmp(p, " BC") == 0) {
        year = 1 - year;
        p += 3;
    }
    if (*p || month < 1 || month > 12 || day < 1 || day > 31)
        return false;
    if (year < -4713 || year > 294276) /* keeps the microseconds below from overflowing */
        return false;
    int64_t days = days_from_civil(year, (int)month, (int)day);
    *usec = days * USEC_PER_DAY + (h * 3600 + m * 60 + s - zone) * USEC_PER_S + fraction;
    return *usec >= FIRST_TIMESTAMP && *usec < END_TIMESTAMP;
}

bool timefmt_is_date(const char *text)
{
    const char *p = text;
    int64_t n;
    if (strcmp(text, "infinity") == 0 || strcmp(text, "-infinity") == 0)
        return true;
    return get_number(&p, 4, 7, &n) && get_char(&p, '-') && get_number(&p, 2, 2, &n) && get_char(&p, '-') &&
           get_number(&p, 2, 2, &n) && (*p == '\0' || strcmp(p, " BC") == 0);
}
