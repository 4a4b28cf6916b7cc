/*
 * The Lua modules inside the binary, as bytecode of the Lua that is linked in (with debug
 * information, so tracebacks name file and line). Made at build time by embed/embed.c.
 */
#ifndef DBRUN_HOST_EMBEDDED_H
#define DBRUN_HOST_EMBEDDED_H

#include <stddef.h>

struct embedded_module {
    const char *name; /* "dbrun.config" */
    const unsigned char *code;
    size_t size;
};

extern const struct embedded_module embedded_modules[]; /* sorted by name */
extern const size_t embedded_count;

/* The module of that name; NULL when there is none. */
const struct embedded_module *embedded_find(const char *name);

#endif
