/*
 * core.sql: cuts SQL texts into pieces by our scanner (pg/scan.h), and splits them into statements and parses
 * them by PostgreSQL's own parser.
 *
 * The parser is libpg_query, 2.7 MB that only migrations need: it is opened with dlopen at the first use, so
 * that it does not slow other starts, and the program works without it. Only the handle of the library is
 * kept between two calls.
 */
#ifndef DBRUN_BIND_DATA_SQL_H
#define DBRUN_BIND_DATA_SQL_H

#include "bind/base/runtime.h"

/* Leaves the table `core.sql` on the stack:
 *   available() -> boolean [, why not]
 *   split(sql)  -> list of {first, last} (bytes, 1-based, blanks and comments in front included)
 *               -> nil, message [, position in characters]  when the text does not parse,
 *               -> nil, message                             when the library is not there.
 *   parse(sql)  -> the parse tree as JSON text; nil, message [, position] as split. Names that the
 *               parser cut at 63 bytes may end within a character. A text over 8 MiB is refused.
 *   scan(sql, at) -> position after the piece at `at`, its kind, `at`, true when the piece has no end;
 *               -> nothing at the end of the text. Kinds: blank, comment, word, quoted, string, dollar,
 *               parameter, number, sign (one byte). For a loop: for behind, kind, at in scan, sql, 1 do ...
 */
int bind_sql_open(lua_State *L, struct runtime *rt);

#endif
