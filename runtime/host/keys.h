/*
 * Reads what is typed at the prompt, byte by byte: never more than the editor needs, because the rest is for
 * statements that read. A pasted text, which the terminal marks (bracketed paste), is taken as a whole, so
 * that no newline in it runs anything and no tab completes anything.
 */
#ifndef DBRUN_HOST_KEYS_H
#define DBRUN_HOST_KEYS_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdio.h>

struct keys {
    struct buf queue; /* bytes for the editor before those of the terminal */
    size_t next;      /* position in the queue */
    bool ended;       /* the terminal is gone */
};

enum keys_kind { KEYS_PLAIN, KEYS_PASTE };

/* Looks at what comes next, at the beginning of a key. KEYS_PASTE: the terminal began a paste, which was read
 * to its end into `paste`, with line ends as \n and without control characters. */
enum keys_kind keys_look(struct keys *k, struct buf *paste);
/* True when the queue has more bytes, which the editor must get without waiting for the terminal. */
bool keys_queued(const struct keys *k);
/* Queues `erase` backspaces, then the text. */
void keys_queue(struct keys *k, int erase, const char *text, size_t len);
/* Queues a text as typed, with its tabs quoted (Ctrl-V). */
void keys_type(struct keys *k, const char *text, size_t len);
/* The next character, as a wide one in the encoding of LC_CTYPE; -1: the terminal is gone. */
int keys_next(struct keys *k);
void keys_free(struct keys *k);

#endif
