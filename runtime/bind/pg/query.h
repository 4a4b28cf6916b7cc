/* Where statements of engines and leases come in. Stack: 1 = engine (`lease` is NULL then) or lease, whose
 * type has been checked, 2 = SQL, 3.. = parameters. */
#ifndef DBRUN_BIND_PG_QUERY_H
#define DBRUN_BIND_PG_QUERY_H

#include "bind/pg/lease.h"
#include "bind/pg/result.h"

/* Methods of engines and of leases: a statement with parameters ... */
int pg_query(lua_State *L, struct pg_lease *lease, enum pg_result_shape shape);
/* ... one or several without (simple protocol) ... */
int pg_script(lua_State *L, struct pg_lease *lease);
/* ... the columns of one, which does not run ... */
int pg_describe(lua_State *L, struct pg_lease *lease);
/* ... whether one that failed with the SQLSTATE at 3, of the data type at 4, was prepared before its types
 * changed: a boolean, or nothing when the SQLSTATE has other causes ... */
int pg_is_stale(lua_State *L, struct pg_lease *lease);
/* ... a row iterator ... */
int pg_rows(lua_State *L, struct pg_lease *lease);
/* ... or only the checkout: returns a lease. */
int pg_acquire(lua_State *L);

#endif
