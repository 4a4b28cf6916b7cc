/*
 * The server's own scanner (libpg_query), to compare with. It is PostgreSQL 15's scanner, with these
 * differences: comments are tokens, a comment between two parts of a string ends the string, and the ends of
 * U&'..' and U&".." are wrong.
 */
#ifndef DBRUN_SPEC_PG_SCANNER_H
#define DBRUN_SPEC_PG_SCANNER_H

#include <stdbool.h>
#include <stddef.h>

/* Some of its kinds. Each keyword has its own number; a punctuation mark has the number of its character. */
enum {
    SCANNER_IDENT = 258,
    SCANNER_SCONST = 261,
    SCANNER_XCONST = 264, /* SCONST to XCONST: strings of all kinds, including dollar-quoted ones */
    SCANNER_PARAM = 267,
    SCANNER_LINE_COMMENT = 275,
    SCANNER_BLOCK_COMMENT = 276,
};

struct scanner_token {
    size_t at;
    size_t end;
    int kind;
    bool keyword;
};

/* Opens the library once. False: it is not installed. */
bool scanner_open(void);

/* Finds the tokens of a text that ends in NUL. Returns their number, or -1 and a reason in `why` when the
 * scanner refuses the text. `most` is at least the length of the text. */
long scanner_read(const char *sql, struct scanner_token *list, size_t most, char why[200]);

#endif
