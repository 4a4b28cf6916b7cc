#include "pg/libpq.h"

#include "base/symbol.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define LIBPQ_SONAME "libpq.so.5"

static void no_conn(PGconn *conn)
{
    (void)conn;
}

static void no_result(PGresult *result)
{
    (void)result;
}

static void no_memory(void *memory)
{
    (void)memory;
}

static void no_cancel(PGcancel *cancel)
{
    (void)cancel;
}

static void no_options(PQconninfoOption *options)
{
    (void)options;
}

struct libpq libpq = {.at_PQfinish = no_conn,
                      .at_PQclear = no_result,
                      .at_PQfreemem = no_memory,
                      .at_PQfreeCancel = no_cancel,
                      .at_PQconninfoFree = no_options};

/* Sets all pointers. False, with dlerror's text or the name of a missing function in `why`. */
static bool open_library(char *why, size_t size)
{
    const char *lacks = NULL;
    void *library = dlopen(LIBPQ_SONAME, RTLD_LAZY | RTLD_LOCAL);
    if (library == NULL) {
        const char *said = dlerror();
        snprintf(why, size, "%s", said ? said : LIBPQ_SONAME);
        return false;
    }
    struct libpq found = {0};
#define FIND(name)                                                                                           \
    if (!symbol_find(library, #name, &found.at_##name))                                                      \
        lacks = #name;
    LIBPQ_FUNCTIONS(FIND)
#undef FIND
    if (lacks) {
        snprintf(why, size, LIBPQ_SONAME " lacks the function %s", lacks);
        dlclose(library);
        return false;
    }
    libpq = found;
    return true;
}

/* The hint when no file could be opened, which only dlerror's text says; else NULL. */
static const char *limit_hint(const char *why)
{
    static const int limits[] = {EMFILE, ENFILE};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        if (strstr(why, strerror(limits[i])))
            return error_limit_hint(limits[i]);
    return NULL;
}

bool libpq_open(struct error *err)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static bool opened;
    char why[256];
    pthread_mutex_lock(&lock);
    opened = opened || open_library(why, sizeof why);
    bool ok = opened;
    pthread_mutex_unlock(&lock);
    if (ok)
        return true;
    const char *hint = limit_hint(why);
    error_set(err, hint ? ERROR_CONNECT : ERROR_CONFIG, "PostgreSQL's client library cannot be used: %s",
              why);
    error_set_field(err, ERROR_HINT,
                    hint ? hint : "install libpq 14 or later (Debian: apt-get install libpq5)");
    return false;
}
