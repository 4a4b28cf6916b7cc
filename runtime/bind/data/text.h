/*
 * core.text: text from outside as one line of a terminal (base/width.h, base/printable.h).
 *   width(s) -> columns; control characters and bytes that are not UTF-8 count as their escape
 *   cut(s, columns) -> s, or the part that fits and an ellipsis
 *   escape(s) -> s escaped for printing on one line
 *   cell(s [, columns]) -> escape(cut(s, columns)), its columns
 */
#ifndef DBRUN_BIND_TEXT_H
#define DBRUN_BIND_TEXT_H

#include "bind/base/runtime.h"

int bind_text_open(lua_State *L, struct runtime *rt);

#endif
