/* Parameters of statements: checked, wrapped (db.json, ...), encoded for libpq. */
#ifndef DBRUN_BIND_PG_PARAMS_H
#define DBRUN_BIND_PG_PARAMS_H

#include "bind/base/runtime.h"
#include "pg/machine.h"

#define PG_PARAM_CLASS "dbrun.pg.param"

enum { PG_PARAMS_INLINE = 16 };
/* Parameters in libpq's form; the texts point into the Lua stack and into `text`. */
struct pg_encoded {
    struct pg_params p;
    void *block; /* NULL when the arrays below were enough */
    Oid types[PG_PARAMS_INLINE];
    const char *values[PG_PARAMS_INLINE];
    int lengths[PG_PARAMS_INLINE];
    int formats[PG_PARAMS_INLINE];
    char numbers[PG_PARAMS_INLINE][32];
};
/* Raises for a value that cannot be a parameter, naming its number. Replaces what must be turned into
 * text (wrapped values) on the stack. Called before a connection is taken. */
void pg_params_check(lua_State *L, struct runtime *rt, int first, int n);
/* A longer one would not fit into a message that the server takes (MaxAllocSize): it would hang up. */
#define PG_SQL_MAX ((1u << 30) - (1u << 20))
/* Can the value at this index be a parameter (or a COPY column)? */
bool pg_param_is_allowed(lua_State *L, int at);
/* A number as the text that reads back as the same value. */
void pg_param_number(lua_State *L, int at, char out[32]);
/* Never raises. False when memory is out. */
bool pg_params_encode(lua_State *L, int first, int n, struct pg_encoded *out);
void pg_params_free(struct pg_encoded *enc);
/* db.bytea, db.json, db.typed, db.array */
extern const luaL_Reg pg_param_functions[];

#endif
