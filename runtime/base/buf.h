/*
 * A growable byte buffer. The owner zero-initialises it and calls buf_free. Appending after an allocation
 * failed is harmless: `oom` stays set and the contents stay unchanged.
 */
#ifndef DBRUN_BASE_BUF_H
#define DBRUN_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>

struct buf {
    char *data; /* NUL-terminated whenever it is not NULL */
    size_t len;
    size_t cap;
    bool oom;
};

/* Makes room for `more` bytes (and the NUL). False when out of memory. */
bool buf_reserve(struct buf *b, size_t more);
bool buf_add(struct buf *b, const void *data, size_t len);
bool buf_adds(struct buf *b, const char *s);
bool buf_addf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Drops the first `n` bytes. */
void buf_consume(struct buf *b, size_t n);
/* Drops the contents, keeps the memory. */
void buf_clear(struct buf *b);
void buf_free(struct buf *b);

#endif
