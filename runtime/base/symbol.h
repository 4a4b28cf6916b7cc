/* A function or a variable of a library that was opened with dlopen. */
#ifndef DBRUN_BASE_SYMBOL_H
#define DBRUN_BASE_SYMBOL_H

#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* Sets the pointer at `out`, to a function or an object; false: the library has no such name, and the pointer
 * is NULL. ISO C has no cast from an object pointer to a function pointer; POSIX gives dlsym this meaning. */
static inline bool symbol_find(void *library, const char *name, void *out)
{
    void *p = dlsym(library, name);
    memcpy(out, &p, sizeof p);
    return p != NULL;
}

#endif
