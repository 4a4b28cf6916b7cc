#include "pg/settings.h"
#include "base/number.h"

#include <stdio.h>
#include <string.h>

/* The greatest process number of Linux; those of other systems are smaller. */
enum { MOST_PROCESSES = 1 << 22 };

bool pg_settings_at_startup(const PGconn *conn)
{
    const char *options = PQoptions(conn);
    int pid = PQbackendPID(conn);
    return options && strstr(options, PG_SETTINGS_OPTIONS) && pid > 0 && pid <= MOST_PROCESSES;
}

bool pg_settings_other_encoding(const PGconn *conn)
{
    const char *encoding = PQparameterStatus(conn, "client_encoding");
    return encoding && strcmp(encoding, "UTF8") != 0;
}

static bool is_iso(const PGconn *conn)
{
    const char *style = PQparameterStatus(conn, "DateStyle");
    return !style || strncmp(style, "ISO", 3) == 0;
}

void pg_settings_mend(const PGconn *conn, bool unreported, bool local, char sql[PG_SETTINGS_SQL])
{
    const char *set = local ? "SET LOCAL" : "SET";
    int n = 0;
    sql[0] = '\0';
    if (!is_iso(conn)) /* keeps the order of day and month */
        n = snprintf(sql, PG_SETTINGS_SQL, "%s datestyle = ISO;", set);
    if (unreported)
        snprintf(sql + n, PG_SETTINGS_SQL - (size_t)n, "%s extra_float_digits = 3;%s array_nulls = on;", set,
                 set);
}

static bool contains(const char *sql, size_t len, const char *word)
{
    size_t n = strlen(word);
    for (size_t i = 0; i + n <= len; i++)
        if (ascii_lower(sql[i]) == word[0] && ascii_begins(sql + i, word, n))
            return true;
    return false;
}

/* Both names have their first '_' after five letters: searching for '_' is many times faster on a long text
 * than looking at each letter. */
static bool names_setting(const char *sql, size_t len)
{
    static const char *const words[] = {"extra_float_digits", "array_nulls"};
    const char *end = sql + len;
    for (const char *at = sql; (at = memchr(at, '_', (size_t)(end - at))); at++) {
        if (at - sql < 5)
            continue;
        const char *start = at - 5;
        for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
            size_t n = strlen(words[i]);
            if ((size_t)(end - start) >= n && ascii_begins(start, words[i], n))
                return true;
        }
    }
    return false;
}

bool pg_settings_named(const char *sql, size_t len, bool all)
{
    return names_setting(sql, len) ||
           (all && (contains(sql, len, "reset") || contains(sql, len, "discard")) &&
            contains(sql, len, "all"));
}
