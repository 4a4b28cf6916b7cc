/*
 * Masks secrets. Passwords that the program learns are added here; errors, tracebacks and log lines pass
 * through secrets_mask. What a script prints itself does not.
 */
#ifndef DBRUN_BASE_SECRETS_H
#define DBRUN_BASE_SECRETS_H

#include "base/buf.h"
#include "base/error.h"

struct secrets;

struct secrets *secrets_new(void);
void secrets_free(struct secrets *s);

/* Remembers a secret. Secrets of fewer than 4 bytes are ignored: replacing them everywhere would make texts
 * unreadable and hide nothing. (For the same reason a short lower-case word is masked only as a whole word.)
 * Adding a secret twice is harmless. False when out of memory. */
bool secrets_add(struct secrets *s, const char *secret, size_t len);

/* Appends `text` to `out` with "***" in place of
 *   - each known secret, also when it is spelled with %XX, with backslashes or with doubled quotes,
 *   - the password of each URL (`://user:...@`),
 *   - the value after `password=`, `"password":` and SQL's `PASSWORD '...'`.
 * `s` can be NULL: no known secrets. False when out of memory. */
bool secrets_mask(const struct secrets *s, const char *text, size_t len, struct buf *out);
/* Masks the message and all fields of an error that is set. False when out of memory. */
bool error_mask(struct error *e, const struct secrets *s);

#endif
