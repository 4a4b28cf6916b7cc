/*
 * The server's own scanner (libpg_query), to compare with. It is the one of PostgreSQL 15, and differs from
 * the server in this: comments are tokens, one that stands between two parts of a string ends the string, and
 * the ends of U&'..' and U&".." are wrong.
 */
#ifndef DBRUN_SPEC_PG_SCANNER_H
#define DBRUN_SPEC_PG_SCANNER_H

#include <stdbool.h>
#include <stddef.h>

/* Some of its kinds; keywords have numbers of their own, punctuation that of its character. */
enum {
    SCANNER_IDENT = 258,
    SCANNER_SCONST = 261,
    SCANNER_XCONST = 264, /* SCONST to XCONST: strings of all kinds, dollar-quoted ones too */
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

/* Opens the library, once. False: it is not installed. */
bool scanner_open(void);

/* The tokens of a text that ends in NUL; returns their number, or -1 when the scanner refuses the text, for
 * the reason in `why`. `most` is at least the length of the text. */
long scanner_read(const char *sql, struct scanner_token *list, size_t most, char why[200]);

#endif
