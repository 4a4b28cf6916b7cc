/*
 * core.sqlsplit: where the statements of an SQL text begin and end, and what they are, asked of
 * PostgreSQL's own parser.
 *
 * The parser is libpg_query, 2.7 MB that only migrations need: it is opened with dlopen at the first
 * use, so nobody else pays for it at start-up and the program works where it is not installed.
 * Nothing here is kept between two calls but the handle of that library.
 */
#ifndef DBRUN_BIND_SQLSPLIT_H
#define DBRUN_BIND_SQLSPLIT_H

#include "bind/base/runtime.h"

/* Leaves the table `core.sqlsplit` on the stack:
 *   available() -> boolean [, why not]
 *   split(sql)  -> list of {first, last} (bytes, 1-based, blanks and comments in front included)
 *               -> nil, message [, position in characters]  when the text does not parse,
 *               -> nil, message                             when the library is not there.
 *   parse(sql)  -> the parse tree as JSON text; nil, message [, position] as split. */
int bind_sqlsplit_open(lua_State *L, struct runtime *rt);

#endif
