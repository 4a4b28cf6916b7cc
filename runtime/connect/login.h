/*
 * What happens on a new Redis connection before anybody may use it: TLS, AUTH, SELECT, CLIENT SETNAME
 * and a PING, in blocking code. A server that is still loading its data is waited for.
 */
#ifndef DBRUN_CONNECT_LOGIN_H
#define DBRUN_CONNECT_LOGIN_H

#include "io/poll.h"
#include "redis/conn.h"

/* False: `e` says which layer refused (see redis_connect). */
bool redis_login(struct redisconn *c, uint64_t deadline, const struct io_interrupt *intr, struct error *e);

/* One command on a connection that nobody else uses: its reply is in call->reply, which is the caller's
 * (initialised, and to be cleared). False: `e` is set. */
bool redis_ask(struct redisconn *c, const char *const *words, size_t n, struct redis_call *call,
               uint64_t deadline, const struct io_interrupt *intr, struct error *e);

#endif
