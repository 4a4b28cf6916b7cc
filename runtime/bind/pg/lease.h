/*
 * The lease that engine:acquire() returns: one connection until it is released. Its methods are in
 * lease_methods.c.
 *
 * Who owns what: the lease has its link until it is released. Another task can release it while a statement
 * runs: so the statement's continuation checks that the lease still has the link before it touches the link.
 */
#ifndef DBRUN_BIND_PG_LEASE_H
#define DBRUN_BIND_PG_LEASE_H

#include "bind/pg/link.h"

#define PG_LEASE_CLASS "dbrun.pg.conn"

struct pg_lease {
    struct pg_engine *engine;
    struct pg_link *link; /* NULL = released, or not acquired yet */
    struct pg_checkout
        *checkout; /* the wait for its connection (checkout.c), in the same block; NULL = none */
};

/* Holds a reference to the engine. */
struct pg_checkout {
    struct pool_waiter waiter;
    struct wait *wait; /* NULL once it was woken or abandoned */
};

/* Pushes a lease without a link; with `waits`, with room for a checkout. Only in a function of the
 * bindings. */
struct pg_lease *pg_lease_new(lua_State *L, bool waits);
/* Ends the checkout of a lease that has one. Closes a connection that was granted but not taken. */
void pg_lease_end_checkout(struct pg_lease *lease);

/* The lease at 1; raises when it was released. */
struct pg_lease *pg_lease_check(lua_State *L);
/* Raises when the lease was released, or another task uses it. (It may still be draining.) */
void pg_lease_check_free(lua_State *L, struct pg_lease *lease);
/* The link of the lease at 1, for methods that send. Raises as pg_lease_check_free does, and where the task
 * cannot wait. */
struct pg_link *pg_lease_link(lua_State *L);
/* For the continuation of a method of the lease at 1: ends the wait. Raises when the wait timed out or was
 * cancelled (the message of a timeout begins with `what`), or when another task released the lease
 * meanwhile. */
void pg_lease_waited(lua_State *L, struct pg_link *link, int status, const char *what);
/* Raises the error of a statement whose lease was released while it ran. */
int pg_lease_lost(lua_State *L, struct runtime *rt);

#endif
