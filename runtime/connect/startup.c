#include "connect/startup.h"

#include "pg/libpq.h"
#include "pg/settings.h"

#include <stdlib.h>
#include <string.h>

/* The last value of a keyword; NULL = none. */
static const char *value_of(const char *const *keywords, const char *const *values, const char *keyword)
{
    const char *value = NULL;
    for (size_t i = 0; keywords[i]; i++)
        if (strcmp(keywords[i], keyword) == 0)
            value = values[i];
    return value && *value ? value : NULL;
}

/* The `options` that libpq would send; the caller frees them. Only libpq reads service files, when a connect
 * begins. NULL when out of memory. */
static char *options_of(const char *const *keywords, const char *const *values)
{
    const char *options = value_of(keywords, values, "options");
    const char *env = getenv("PGOPTIONS");
    const char *service = getenv("PGSERVICE");
    if (options || !(value_of(keywords, values, "service") || (service && *service)))
        return strdup(options ? options : env ? env : "");
    PGconn *conn = PQconnectStartParams(keywords, values, 0);
    options = conn ? PQoptions(conn) : NULL;
    char *copy = conn ? strdup(options ? options : "") : NULL;
    PQfinish(conn);
    return copy;
}

static char *with_settings(char *given)
{
    size_t len = given ? strlen(given) : 0;
    char *all = given ? realloc(given, len + 1 + sizeof PG_SETTINGS_OPTIONS) : NULL;
    if (!all) {
        free(given);
        return NULL;
    }
    if (len > 0)
        all[len++] = ' ';
    strcpy(all + len, PG_SETTINGS_OPTIONS); /* the last one counts */
    return all;
}

bool startup_init(struct startup *s, const char *const *keywords, const char *const *values)
{
    size_t n = 0;
    while (keywords[n])
        n++;
    s->options = with_settings(options_of(keywords, values));
    s->keywords = calloc(n + 2, sizeof *s->keywords);
    s->values = calloc(n + 2, sizeof *s->values);
    if (!s->options || !s->keywords || !s->values) {
        startup_free(s);
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        s->keywords[i] = keywords[i];
        s->values[i] = values[i];
    }
    s->keywords[n] = "options";
    s->values[n] = s->options;
    return true;
}

void startup_free(struct startup *s)
{
    free(s->options);
    free(s->keywords);
    free(s->values);
    *s = (struct startup){0};
}
