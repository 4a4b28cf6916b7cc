/*
 * What is typed at the prompt, byte by byte: never more than the editor needs, because the rest belongs to
 * the statements that read. A pasted text, which the terminal marks (bracketed paste), is taken as a whole,
 * so that no newline of it runs anything and no tab completes anything.
 */
#ifndef DBRUN_HOST_KEYS_H
#define DBRUN_HOST_KEYS_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdio.h>

struct keys {
    struct buf queue; /* bytes for the editor that come before those of the terminal */
    size_t next;      /* of the queue */
    bool ended;       /* the terminal is gone */
};

enum keys_kind { KEYS_PLAIN, KEYS_PASTE };

/* Looks at what comes next, at the beginning of a key. KEYS_PASTE: the terminal began a paste, which is then
 * read to its end into `paste`, ends of lines as \n, without control characters. */
enum keys_kind keys_look(struct keys *k, struct buf *paste);
/* Is there more in the queue, which the editor must be given without waiting for the terminal? */
bool keys_queued(const struct keys *k);
/* Puts a text into the queue, behind `erase` backspaces. */
void keys_queue(struct keys *k, int erase, const char *text, size_t len);
/* Puts a text into the queue as somebody would type it who wants its tabs as they are. */
void keys_type(struct keys *k, const char *text, size_t len);
/* The next character, as a wide one in the encoding of LC_CTYPE; -1: the terminal is gone. */
int keys_next(struct keys *k);
void keys_free(struct keys *k);

#endif
