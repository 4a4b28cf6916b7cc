/*
 * JSON and Lua values. jansson reads JSON (integers keep their 64 bits); our own code writes it, so that
 * errors name the place in the value.
 *
 * A JSON array becomes a table with the metatable "dbrun.array", an object a plain table, null the
 * light userdata NULL (core.null): so empty arrays, empty objects and nulls survive a round trip.
 */
#ifndef DBRUN_BIND_JSON_H
#define DBRUN_BIND_JSON_H

#include "base/error.h"
#include "bind/base/runtime.h"

#define JSON_ARRAY_CLASS  "dbrun.array"
#define JSON_OBJECT_CLASS "dbrun.object" /* set by json.object: encoded as an object whatever its keys */

/* Deeper nesting is refused, in both directions. jansson's parser has the same limit. */
#define JSON_MAX_DEPTH 2048

/* Pushes the value of a JSON text; raises an error of kind usage with line and column. */
void bind_json_push(lua_State *L, const char *text, size_t len);
/* The same, but a malformed text sets `e` and pushes nothing. */
bool bind_json_read(lua_State *L, const char *text, size_t len, struct error *e);

/* lua_CFunction: encode(value [, {indent=, sort_keys=, nulls=}]) -> text. In json_encode.c. */
int bind_json_encode(lua_State *L);

/* core.json: decode, encode, array, object, is_array. */
int bind_json_open(lua_State *L, struct runtime *rt);

#endif
