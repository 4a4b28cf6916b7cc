/* Checks parameters of statements, wraps them (db.json, ...), and encodes them for libpq. */
#ifndef DBRUN_BIND_PG_PARAMS_H
#define DBRUN_BIND_PG_PARAMS_H

#include "bind/base/runtime.h"
#include "pg/machine.h"

#define PG_PARAM_CLASS "dbrun.pg.param"
/* The registry key of the function that encodes parameters by their types. */
#define PG_WRITE_VALUES "dbrun.pg.write_values"

enum { PG_PARAMS_INLINE = 16 };
/* Parameters in libpq's form. The values point to strings on the Lua stack and into `numbers` (or the
 * block). */
struct pg_encoded {
    struct pg_params p;
    void *block; /* NULL when the arrays below were enough */
    Oid types[PG_PARAMS_INLINE];
    const char *values[PG_PARAMS_INLINE];
    int lengths[PG_PARAMS_INLINE];
    int formats[PG_PARAMS_INLINE];
    char numbers[PG_PARAMS_INLINE][32];
};
/* Raises, with its number, when a value cannot be a parameter. Called before a connection is taken. True when
 * one of them is a table that must first be encoded by its type (lua/dbrun/db/values.lua). `plan`: the index
 * of the plan of :name parameters, if it is one there: the error then tells the name. */
bool pg_params_check(lua_State *L, struct runtime *rt, int first, int n, int plan);
/* The longest SQL: the server closes the connection when a message is longer than MaxAllocSize. */
#define PG_SQL_MAX ((1u << 30) - (1u << 20))
/* True for a table that db.json, db.array, ... made. The index is absolute. */
bool pg_param_is_wrapped(lua_State *L, int at);
/* True when the value at this index can be a parameter (or a COPY column). */
bool pg_param_is_allowed(lua_State *L, int at);
/* Writes the number as a text that reads back as the same value. */
void pg_param_number(lua_State *L, int at, char out[32]);
/* Encodes the n values from `first` on. Never raises; false when out of memory. */
bool pg_params_encode(lua_State *L, int first, int n, struct pg_encoded *out);
void pg_params_free(struct pg_encoded *enc);
/* The function that wraps parameters, for the module's table. */
extern const luaL_Reg pg_param_functions[];

#endif
