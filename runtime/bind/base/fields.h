/* Reads settings from the tables of scripts, and writes figures into tables for them. */
#ifndef DBRUN_BIND_FIELDS_H
#define DBRUN_BIND_FIELDS_H

#include "bind/base/runtime.h"

/* ---- reading t[key] of the table at `at`; `otherwise` when it is nil ---- */

/* The functions that check the type raise an error of kind `usage` when it is wrong. */
double field_number(lua_State *L, int at, const char *key, double otherwise);
/* A number of seconds of at least 0. */
double field_seconds(lua_State *L, int at, const char *key, double otherwise);
lua_Integer field_integer(lua_State *L, int at, const char *key, lua_Integer otherwise);
/* NULL when the field is nil. The text has no NUL bytes, and is valid as long as the table keeps it. */
const char *field_text(lua_State *L, int at, const char *key);
/* Any value except nil and false is true. */
bool field_boolean(lua_State *L, int at, const char *key, bool otherwise);
/* A reference to the function in the registry; LUA_NOREF when the field is no function. */
int field_function(lua_State *L, int at, const char *key);

/* ---- writing into the table on top of the stack ---- */

void field_set_count(lua_State *L, const char *key, uint64_t n);
/* Writes nanoseconds as seconds. */
void field_set_seconds(lua_State *L, const char *key, uint64_t ns);

#endif
