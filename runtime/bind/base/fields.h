/* Fields of tables: settings that scripts give, and figures that they are told. */
#ifndef DBRUN_BIND_FIELDS_H
#define DBRUN_BIND_FIELDS_H

#include "bind/base/runtime.h"

/* ---- reading t[key] of the table at `at`; a field that is nil is `otherwise` ---- */

/* Raise an error of kind `usage` when it is of another type. */
double field_number(lua_State *L, int at, const char *key, double otherwise);
/* A number of seconds of at least 0. */
double field_seconds(lua_State *L, int at, const char *key, double otherwise);
lua_Integer field_integer(lua_State *L, int at, const char *key, lua_Integer otherwise);
/* NULL when it is nil. The text has no NUL bytes, and lives as long as the table keeps it. */
const char *field_text(lua_State *L, int at, const char *key);
/* A value other than nil and false is true. */
bool field_boolean(lua_State *L, int at, const char *key, bool otherwise);
/* A reference to it in the registry; LUA_NOREF when it is no function. */
int field_function(lua_State *L, int at, const char *key);

/* ---- writing into the table on top of the stack ---- */

void field_set_count(lua_State *L, const char *key, uint64_t n);
/* Nanoseconds, as seconds. */
void field_set_seconds(lua_State *L, const char *key, uint64_t ns);

#endif
