/*
 * Login on a new Redis connection: TLS, AUTH, SELECT, CLIENT SETNAME and a PING, in blocking code. Waits for
 * a server that is still loading its data. A server that runs a long script refuses SELECT and CLIENT: the
 * login then fails at once with the code BUSY, because the connection would have the wrong database.
 */
#ifndef DBRUN_CONNECT_LOGIN_H
#define DBRUN_CONNECT_LOGIN_H

#include "io/poll.h"
#include "redis/conn.h"

/* `t` is the connection's target; the login stores in it what it waits for. False: `e` says which layer
 * refused (see redis_connect). */
bool redis_login(struct redisconn *c, struct redis_target *t, uint64_t deadline,
                 const struct io_interrupt *intr, struct error *e);

/* Sends one command and waits for its reply, on a connection without other users. The reply is in
 * call->reply, which the caller initialises and clears. False: `e` is set. */
bool redis_ask(struct redisconn *c, const char *const *words, size_t n, struct redis_call *call,
               uint64_t deadline, const struct io_interrupt *intr, struct error *e);

#endif
