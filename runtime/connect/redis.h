/*
 * Connecting to Redis, in blocking code for a worker thread: the name is resolved, its addresses are
 * tried in turn, TLS shakes hands, the user logs in, the database is selected, the connection named,
 * and the server has answered a PING; all of it under one deadline. With sentinels the server is the
 * master that they name (redis_sentinel.h).
 *
 * (Only the resolver cannot be held to a deadline. Whoever waits for the worker watches the clock.)
 */
#ifndef DBRUN_CONNECT_REDIS_H
#define DBRUN_CONNECT_REDIS_H

#include "io/poll.h"
#include "redis/conn.h"

/* NULL: `e` says which layer failed (ERROR_CONTEXT: "name", "TCP", "unix socket", "TLS",
 * "authentication", "database", "server", "sentinel", "role"), at which address, and what to do. */
struct redisconn *redis_connect(struct redis_target *t, uint64_t deadline, const struct io_interrupt *intr,
                                struct error *e);

#endif
