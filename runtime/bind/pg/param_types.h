/*
 * The types of parameters: asked for (Parse and Describe, without running the statement), looked up in the
 * catalog, and passed to Lua as tables. lua/dbrun/db/types.lua keeps the answers; lua/dbrun/db/values.lua
 * encodes values by them.
 */
#ifndef DBRUN_BIND_PG_PARAM_TYPES_H
#define DBRUN_BIND_PG_PARAM_TYPES_H

#include "bind/pg/engine.h"

/* Methods of leases. */
int pg_lease_parameter_types(lua_State *L);
int pg_lease_load_types(lua_State *L);
int pg_lease_epochs(lua_State *L);
/* Makes the engine's table for the values of parameters (encoders, described types): e->values. */
void pg_values_make(lua_State *L, struct pg_engine *e);
/* type_tree(oid, engine's catalog or NULL) */
int pg_type_tree_push(lua_State *L, const struct pg_catalog *c, Oid oid);
/* Registers the class of the box that owns descriptions. */
void pg_param_types_class(lua_State *L, struct runtime *rt);

#endif
