/*
 * The lexical rules of SQL: section 4.1 of the PostgreSQL manual, with standard_conforming_strings on unless
 * the caller says that it is off.
 *
 * A scan walks over a text piece by piece and allocates nothing. It knows where strings, quoted identifiers,
 * dollar quotes and comments end; what the pieces mean is the caller's. It goes on to the end of any text: a
 * piece that is not finished reaches to the end and says so.
 */
#ifndef DBRUN_PG_SCAN_H
#define DBRUN_PG_SCAN_H

#include <stdbool.h>
#include <stddef.h>

enum sql_kind {
    SQL_END,
    SQL_BLANK,     /* blanks and newlines */
    SQL_COMMENT,   /* up to the newline, or a block, which nests */
    SQL_WORD,      /* keyword or identifier; a prefix of a string (B, X, N, U&) too, but not E */
    SQL_QUOTED,    /* "identifier" */
    SQL_STRING,    /* '...' or E'...', with all that goes on in the next lines */
    SQL_DOLLAR,    /* $tag$...$tag$ */
    SQL_PARAMETER, /* $1 */
    SQL_NUMBER,    /* as the newest server reads it: 1.5e3, 0x1f, 1_000; in 1a only the 1 */
    SQL_SIGN       /* any other byte: of an operator, a bracket, a semicolon */
};

struct sql_scan {
    const char *sql;
    size_t len;
    size_t at;      /* where the next piece begins */
    bool open;      /* the last piece has no end: a string, an identifier or a block comment */
    bool backslash; /* standard_conforming_strings is off: '...' has escapes as E'...' has */
};

/* The kind of the piece at x->at, and x->at moves behind it. SQL_END, again and again, at the end. */
enum sql_kind sql_next(struct sql_scan *x);
/* The same for the next piece that is neither blank nor comment; `from` = where it begins. */
enum sql_kind sql_next_piece(struct sql_scan *x, size_t *from);

/* A byte that begins an identifier, or goes on in one ('$' apart). */
bool sql_starts_name(int c);
bool sql_continues_name(int c);

/* The first word (or other piece) of a statement: behind blanks, comments, opening parentheses and empty
 * statements. Returns the end of the text when there is none. */
const char *sql_first_word(const char *sql);
/* Does more than one statement stand in it? A semicolon inside of a routine's body counts too. */
bool sql_is_several(const char *sql);

#endif
