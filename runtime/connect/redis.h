/*
 * Connecting to Redis, in blocking code for a worker thread: resolves the name, tries its addresses in turn,
 * does the TLS handshake, logs in, selects the database, names the connection and waits for a PING; all under
 * one deadline. With sentinels the server is the master that they name (connect/sentinel.h).
 *
 * (Only the resolver ignores the deadline. The waiter of the job has its own.)
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
