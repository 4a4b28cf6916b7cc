#include "pg/interval.h"
#include "base/number.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define USEC_PER_S INT64_C(1000000)
/* No interval has greater numbers than these; the limits keep the sums below from overflowing. */
#define MOST       INT64_C(100000000000)
#define MOST_HOURS INT64_C(2562047788)

struct span {
    int64_t months;
    int64_t days;
    int64_t usec;
};

/* ---- reading ---- */

static int sign_at(const char **p)
{
    int sign = **p == '-' ? -1 : 1;
    if (**p == '-' || **p == '+')
        (*p)++;
    return sign;
}

static bool get_number(const char **p, int64_t most, int64_t *v)
{
    const char *from = *p;
    for (*v = 0; ascii_is_digit(**p) && *v <= most; (*p)++)
        *v = *v * 10 + (**p - '0');
    return *p > from && *v <= most;
}

/* ".5" in microseconds; 0 when there is no fraction. */
static int64_t get_fraction(const char **p)
{
    int64_t usec = 0;
    int64_t unit = USEC_PER_S / 10;
    if (**p != '.')
        return 0;
    for ((*p)++; ascii_is_digit(**p); (*p)++, unit /= 10)
        usec += (**p - '0') * unit;
    return usec;
}

/* Adds n * factor + more; false when the sum does not fit in int64. */
static bool add_to(int64_t *sum, int64_t n, int64_t factor, int64_t more)
{
    int64_t product;
    return !__builtin_mul_overflow(n, factor, &product) && !__builtin_add_overflow(*sum, product, sum) &&
           !__builtin_add_overflow(*sum, more, sum);
}

/* "4:05:06.7", without its sign. */
static bool get_clock(const char **p, int64_t *usec)
{
    int64_t h;
    int64_t m;
    int64_t s;
    if (!get_number(p, MOST_HOURS, &h) || *(*p)++ != ':' || !get_number(p, 59, &m) || *(*p)++ != ':' ||
        !get_number(p, 59, &s))
        return false;
    *usec = 0;
    return add_to(usec, h * 3600 + m * 60 + s, USEC_PER_S, get_fraction(p));
}

/* Adds n units; for hours, minutes and seconds also a fraction. */
static bool add(struct span *x, char unit, bool clock, int64_t n, int64_t fraction)
{
    switch (unit) {
    case 'Y':
        return !clock && add_to(&x->months, n, 12, 0);
    case 'M':
        return clock ? add_to(&x->usec, n, 60 * USEC_PER_S, fraction) : add_to(&x->months, n, 1, 0);
    case 'D':
        return !clock && add_to(&x->days, n, 1, 0);
    case 'H':
        return clock && add_to(&x->usec, n, 3600 * USEC_PER_S, fraction);
    case 'S':
        return clock && add_to(&x->usec, n, USEC_PER_S, fraction);
    default:
        return false;
    }
}

/* P1Y2M-3DT4H5M6.7S */
static bool read_iso(const char *p, struct span *x)
{
    bool clock = false;
    if (!*++p)
        return false;
    while (*p) {
        int64_t n;
        if (*p == 'T') {
            clock = true;
            p++;
            continue;
        }
        int sign = sign_at(&p);
        if (!get_number(&p, MOST, &n))
            return false;
        int64_t fraction = get_fraction(&p);
        if (!add(x, *p++, clock, sign * n, sign * fraction))
            return false;
    }
    return true;
}

/* "@ 1 year 2 mons -3 days 4 hours 5 mins 6.7 secs ago", "@ 0" */
static bool read_verbose(const char *p, struct span *x)
{
    static const struct {
        const char *word;
        char unit;
        bool clock;
    } units[] = {{"year", 'Y', false}, {"mon", 'M', false}, {"day", 'D', false},
                 {"hour", 'H', true},  {"min", 'M', true},  {"sec", 'S', true}};
    if (strcmp(p, "@ 0") == 0)
        return true;
    for (p++; *p == ' ' && strcmp(p, " ago") != 0;) {
        int64_t n;
        p++;
        int sign = sign_at(&p);
        if (!get_number(&p, MOST, &n))
            return false;
        int64_t fraction = get_fraction(&p);
        if (*p++ != ' ')
            return false;
        size_t len = strcspn(p, " ");
        size_t stem = len > 0 && p[len - 1] == 's' ? len - 1 : len;
        bool known = false;
        for (size_t i = 0; i < sizeof units / sizeof *units && !known; i++)
            if (strlen(units[i].word) == stem && memcmp(units[i].word, p, stem) == 0)
                known = add(x, units[i].unit, units[i].clock, sign * n, sign * fraction);
        if (!known)
            return false;
        p += len;
    }
    if (strcmp(p, " ago") == 0) {
        struct span ago = {0};
        if (!add_to(&ago.months, x->months, -1, 0) || !add_to(&ago.days, x->days, -1, 0) ||
            !add_to(&ago.usec, x->usec, -1, 0))
            return false;
        *x = ago;
        p += 4;
    }
    return *p == '\0';
}

/* "0", "1-2", "3 4:05:06", "4:05:06"; a '-' in front applies to all parts; in "+1-2 -3 +4:05:06" each part
 * has its own sign. */
static bool read_sql(const char *p, struct span *x)
{
    bool each =
        *p == '+' || (*p == '-' && strpbrk(p + 1, "+") != NULL) || (*p == '-' && strstr(p + 1, " -") != NULL);
    int sign = sign_at(&p);
    for (bool more = true; more; more = *p == ' ') {
        int64_t n;
        int64_t m;
        if (*p == ' ') {
            p++;
            sign = each ? sign_at(&p) : sign;
        }
        const char *from = p;
        if (!get_number(&p, MOST, &n))
            return false;
        if (*p == '-') {
            p++;
            if (!get_number(&p, 11, &m))
                return false;
            if (!add_to(&x->months, sign * n, 12, sign * m))
                return false;
        } else if (*p == ':') {
            p = from;
            if (!get_clock(&p, &m))
                return false;
            if (!add_to(&x->usec, m, sign, 0))
                return false;
        } else {
            if (!add_to(&x->days, n, sign, 0))
                return false;
        }
    }
    return *p == '\0';
}

/* ---- writing ---- */

struct writer {
    char *out;
    size_t n;
    bool negative; /* the previous part was negative: a positive part gets a sign */
};

static void put_part(struct writer *w, int64_t v, const char *unit)
{
    if (v == 0)
        return;
    w->n += (size_t)snprintf(w->out + w->n, INTERVAL_MAX - w->n, "%s%s%" PRId64 " %s%s", w->n ? " " : "",
                             w->negative && v > 0 ? "+" : "", v, unit, v != 1 ? "s" : "");
    w->negative = v < 0;
}

static size_t write_postgres(const struct span *x, char out[INTERVAL_MAX])
{
    struct writer w = {.out = out};
    put_part(&w, x->months / 12, "year");
    put_part(&w, x->months % 12, "mon");
    put_part(&w, x->days, "day");
    if (w.n > 0 && x->usec == 0)
        return w.n;
    const uint64_t second = (uint64_t)USEC_PER_S;
    uint64_t usec = x->usec < 0 ? 0 - (uint64_t)x->usec : (uint64_t)x->usec;
    uint64_t s = usec / second;
    uint64_t fraction = usec % second;
    w.n += (size_t)snprintf(out + w.n, INTERVAL_MAX - w.n, "%s%s%02" PRIu64 ":%02" PRIu64 ":%02" PRIu64,
                            w.n ? " " : "",
                            x->usec < 0  ? "-"
                            : w.negative ? "+"
                                         : "",
                            s / 3600, s / 60 % 60, s % 60);
    if (fraction) {
        w.n += (size_t)snprintf(out + w.n, INTERVAL_MAX - w.n, ".%06" PRIu64, fraction);
        while (out[w.n - 1] == '0')
            out[--w.n] = '\0';
    }
    return w.n;
}

/* ---- both ---- */

/* "-04:05:06.7": `sql_standard` prints the same, with the same meaning, from ten hours on. */
static bool is_clock(const char *p)
{
    static const char digits[] = "0123456789";
    sign_at(&p);
    size_t hours = strspn(p, digits);
    p += hours;
    if (hours < 2 || p[0] != ':' || strspn(p + 1, digits) != 2 || p[3] != ':' || strspn(p + 4, digits) != 2)
        return false;
    p += 6;
    return *p == '\0' || (*p == '.' && p[1] && p[1 + strspn(p + 1, digits)] == '\0');
}

bool interval_is_postgres(const char *text)
{
    if (text[0] == 'P' || text[0] == '@')
        return false;
    return strpbrk(text, "aysmno") != NULL || is_clock(text);
}

size_t interval_to_postgres(const char *text, char out[INTERVAL_MAX])
{
    struct span x = {0};
    bool read = text[0] == 'P'   ? read_iso(text, &x)
                : text[0] == '@' ? read_verbose(text, &x)
                                 : read_sql(text, &x);
    return read ? write_postgres(&x, out) : 0;
}
