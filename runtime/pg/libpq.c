#include "pg/libpq.h"

#include "base/symbol.h"

#include <pthread.h>
#include <stdio.h>

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

static char problem[256]; /* empty: the library is open */

static void open_once(void)
{
    const char *lacks = NULL;
    void *library = dlopen(LIBPQ_SONAME, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        const char *why = dlerror();
        snprintf(problem, sizeof problem, "%s", why ? why : LIBPQ_SONAME " cannot be opened");
        return;
    }
#define FIND(name)                                                                                           \
    if (!symbol_find(library, #name, &libpq.at_##name))                                                      \
        lacks = #name;
    LIBPQ_FUNCTIONS(FIND)
#undef FIND
    if (lacks)
        snprintf(problem, sizeof problem, LIBPQ_SONAME " lacks the function %s", lacks);
}

bool libpq_open(struct error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, open_once);
    if (problem[0] == '\0')
        return true;
    error_set(err, ERROR_CONFIG, "PostgreSQL's client library cannot be used: %s", problem);
    error_set_field(err, ERROR_HINT, "install libpq 14 or later (Debian: apt-get install libpq5)");
    return false;
}
