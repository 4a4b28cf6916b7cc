/*
 * Adds the settings on which values depend (pg/settings.h) to the `options` of a connection, after those from
 * the connection string, its service file or PGOPTIONS.
 */
#ifndef DBRUN_CONNECT_STARTUP_H
#define DBRUN_CONNECT_STARTUP_H

#include <stdbool.h>

struct startup {
    const char **keywords;
    const char **values;
    char *options;
};

/* The arrays end in NULL, as PQconnectStartParams takes them, and must outlive `s`. False when out of
 * memory. */
bool startup_init(struct startup *s, const char *const *keywords, const char *const *values);
void startup_free(struct startup *s);

#endif
