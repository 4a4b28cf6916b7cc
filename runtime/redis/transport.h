/*
 * Bytes to and from a Redis server over a connected, non-blocking socket: TCP, unix, or TLS on top.
 * It never waits and never raises SIGPIPE.
 *
 * Who owns what: the transport owns the descriptor and the TLS session from redis_transport_open on,
 * also when that fails.
 */
#ifndef DBRUN_REDIS_TRANSPORT_H
#define DBRUN_REDIS_TRANSPORT_H

#include "base/certificate.h"
#include "base/error.h"
#include "redis/target.h"

#include <stddef.h>

/* What a step waits for; the same bits as IO_READ and IO_WRITE in io/poll.h. */
#define REDIS_IO_READ  1u
#define REDIS_IO_WRITE 2u

struct redis_tls;

struct redis_transport {
    int fd; /* -1 = closed */
    struct redis_tls *tls;
    unsigned want; /* what the last call that returned REDIS_IO_AGAIN waits for */
};

enum redis_io {
    REDIS_IO_OK,    /* *done bytes were moved, at least one */
    REDIS_IO_AGAIN, /* nothing now: wait for t->want */
    REDIS_IO_CLOSED,
    REDIS_IO_FAILED,
};

/* Takes over `fd`. With target->tls call redis_transport_handshake next. False = `e` is set. */
bool redis_transport_open(struct redis_transport *t, int fd, const struct redis_target *target,
                          struct error *e);
/* Call until it returns REDIS_IO_OK; without TLS it does so at once. */
enum redis_io redis_transport_handshake(struct redis_transport *t, struct error *e);
enum redis_io redis_transport_read(struct redis_transport *t, void *data, size_t len, size_t *done,
                                   struct error *e);
enum redis_io redis_transport_write(struct redis_transport *t, const void *data, size_t len, size_t *done,
                                    struct error *e);
/* After a write that returned REDIS_IO_AGAIN: how many of its bytes are already in a TLS record, which may be
 * partly sent. The next write must begin with them. The server can read none of them before it has the whole
 * record. */
size_t redis_transport_taken(const struct redis_transport *t);
/* True when OpenSSL has already read bytes from the socket, which poll(2) does not report. */
bool redis_transport_pending(const struct redis_transport *t);
/* For an idle connection: true when the server has neither closed it nor sent anything. (A TLS session ticket
 * does not count.) */
bool redis_transport_quiet(struct redis_transport *t);
/* The certificates of the TLS session; none without TLS. */
struct certificates redis_transport_certificates(const struct redis_transport *t);
void redis_transport_close(struct redis_transport *t);

#endif
