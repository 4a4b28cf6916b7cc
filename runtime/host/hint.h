/* "Did you mean ...?" for the command line, before there is a Lua state for the script. */
#ifndef DBRUN_HOST_HINT_H
#define DBRUN_HOST_HINT_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>

/* Finds the name in `names` (each ends with a NUL) that is nearest to the first `len` bytes of `word`. False
 * when none is similar. */
bool hint_find(const char *word, size_t len, const struct buf *names, char *out, size_t size);

#endif
