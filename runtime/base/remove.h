/*
 * Removes a folder with all below it. Links are removed, never followed.
 */
#ifndef DBRUN_BASE_REMOVE_H
#define DBRUN_BASE_REMOVE_H

#include <stddef.h>

/* Removes the folder with all below it, or the one file or link; nothing there is no error. Returns 0 or
 * errno. `kept`: `n` folders that must stay: nothing is removed, and *hit is the index of the first one that
 * is at this path or below it. Else *hit is `n`. EINVAL: the path ends in "." or "..". */
int remove_tree(const char *path, const char *const *kept, size_t n, size_t *hit);

#endif
