/* Writing to a descriptor that blocks. */
#ifndef DBRUN_BASE_WRITE_H
#define DBRUN_BASE_WRITE_H

#include <stdbool.h>
#include <stddef.h>

/* Writes all of it, also after an interruption by a signal; false with errno on failure, when an unknown part
 * has been written. Async-signal-safe. */
bool write_all(int fd, const char *data, size_t len);

#endif
