/*
 * A piece of SQL by its text, for those who read a statement word by word (scan.h).
 */
#ifndef DBRUN_PG_PIECE_H
#define DBRUN_PG_PIECE_H

#include "base/number.h"
#include "pg/scan.h"

struct sql_piece {
    enum sql_kind kind;
    const char *text;
    size_t len;
};

/* The next piece that is neither blank nor comment; moves past it. */
static inline struct sql_piece sql_take_piece(struct sql_scan *x)
{
    size_t from;
    enum sql_kind kind = sql_next_piece(x, &from);
    return (struct sql_piece){kind, x->sql + from, x->at - from};
}

/* True for this keyword or plain identifier, given in lower case. */
static inline bool sql_is_word(struct sql_piece p, const char *word)
{
    return p.kind == SQL_WORD && ascii_lower(p.text[0]) == word[0] && ascii_is_word(p.text, p.len, word);
}

static inline bool sql_is_sign(struct sql_piece p, char sign)
{
    return p.kind == SQL_SIGN && p.text[0] == sign;
}

#endif
