/*
 * The one place that keeps secrets out of sight. Passwords that the program learns are added here;
 * every text that leaves it (errors, logs, tracebacks) goes through secrets_mask.
 */
#ifndef DBRUN_BASE_SECRETS_H
#define DBRUN_BASE_SECRETS_H

#include "base/buf.h"

struct secrets;

struct secrets *secrets_new(void);
void secrets_free(struct secrets *s);

/* Remembers a secret. One of fewer than 4 bytes is not remembered: replacing it everywhere would
 * garble texts without hiding anything. Adding it twice is harmless. False when memory is out. */
bool secrets_add(struct secrets *s, const char *secret, size_t len);

/* Appends `text` to `out` with each known secret, the password of each URL (`://user:...@`) and the
 * value of each `password=` replaced by "***". */
bool secrets_mask(const struct secrets *s, const char *text, size_t len, struct buf *out);

#endif
