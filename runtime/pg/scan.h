/*
 * The lexical rules of SQL: section 4.1 of the PostgreSQL manual, with standard_conforming_strings on unless
 * the caller says that it is off.
 *
 * A scan walks over a text piece by piece and allocates nothing. It finds the ends of strings, quoted
 * identifiers, dollar quotes and comments; the caller decides what the pieces mean. A scan never fails: an
 * unfinished piece reaches to the end of the text and sets `open`.
 */
#ifndef DBRUN_PG_SCAN_H
#define DBRUN_PG_SCAN_H

#include <stdbool.h>
#include <stddef.h>

enum sql_kind {
    SQL_END,
    SQL_BLANK,     /* blanks and newlines */
    SQL_COMMENT,   /* up to the newline, or a block, which nests */
    SQL_WORD,      /* keyword or identifier; also the string prefixes B, X, N and U&, but not E */
    SQL_QUOTED,    /* "identifier" */
    SQL_STRING,    /* '...' or E'...', including continuations on the next lines */
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

/* Returns the kind of the piece at x->at and moves x->at past it. Returns SQL_END at the end, however often
 * it is called. */
enum sql_kind sql_next(struct sql_scan *x);
/* The same for the next piece that is neither blank nor comment; `from` = where it begins. */
enum sql_kind sql_next_piece(struct sql_scan *x, size_t *from);

/* True for a byte that can begin an identifier, or continue one (except '$'). */
bool sql_starts_name(int c);
bool sql_continues_name(int c);

/* The first word (or other piece) of a statement: after blanks, comments, opening parentheses and empty
 * statements. Returns the end of the text when there is none. */
const char *sql_first_word(const char *sql);
/* True when the text has more than one statement. A semicolon inside the body of a routine counts, too. */
bool sql_is_several(const char *sql);

#endif
