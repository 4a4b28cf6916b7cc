/*
 * The keywords of a connection with the settings that values depend on (pg/settings.h) added to `options`,
 * behind what the address, its service file or PGOPTIONS say.
 */
#ifndef DBRUN_CONNECT_STARTUP_H
#define DBRUN_CONNECT_STARTUP_H

#include <stdbool.h>

struct startup {
    const char **keywords;
    const char **values;
    char *options;
};

/* The arrays end in NULL, as PQconnectStartParams takes them, and must outlive `s`. False when memory is
 * out. */
bool startup_init(struct startup *s, const char *const *keywords, const char *const *values);
void startup_free(struct startup *s);

#endif
