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
 * garble texts without hiding anything. (For the same reason a short word of small letters is masked
 * only where it stands alone.) Adding it twice is harmless. False when memory is out. */
bool secrets_add(struct secrets *s, const char *secret, size_t len);

/* Appends `text` to `out` with "***" in place of
 *   - each known secret, also where it is spelled with %XX, behind backslashes or with doubled quotes,
 *   - the password of each URL (`://user:...@`),
 *   - the value after `password=`, `"password":` and SQL's `PASSWORD '...'`.
 * `s` may be NULL: then only the places count. False when memory is out. */
bool secrets_mask(const struct secrets *s, const char *text, size_t len, struct buf *out);

#endif
