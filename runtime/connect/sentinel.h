/*
 * Connecting to the master that the sentinels name: asks one sentinel after the other, and accepts an address
 * only when the server there says that it is a master. Blocks; runs on workers.
 */
#ifndef DBRUN_CONNECT_SENTINEL_H
#define DBRUN_CONNECT_SENTINEL_H

#include "io/poll.h"
#include "redis/conn.h"

/* Connects to exactly this server and logs in. NULL = `e` is set. */
typedef struct redisconn *redis_connect_fn(struct redis_target *t, uint64_t deadline,
                                           const struct io_interrupt *intr, struct error *e);

/* `target` has sentinels. NULL = `e` is set: kind connect, or config when they know no such master. */
struct redisconn *redis_sentinel_connect(struct redis_target *target, uint64_t deadline,
                                         const struct io_interrupt *intr, redis_connect_fn *direct,
                                         struct error *e);

#endif
