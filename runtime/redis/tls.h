/*
 * A TLS session (OpenSSL) over a connected, non-blocking socket: verifies the certificate and the host name
 * in it, sends the name (SNI). Writing never raises SIGPIPE.
 *
 * The transport still owns the descriptor.
 */
#ifndef DBRUN_REDIS_TLS_H
#define DBRUN_REDIS_TLS_H

#include "redis/transport.h"

/* NULL = `e` is set (kind config for files that cannot be used). */
struct redis_tls *redis_tls_new(const struct redis_target *target, int fd, struct error *e);
void redis_tls_free(struct redis_tls *tls);

enum redis_io redis_tls_handshake(struct redis_tls *tls, unsigned *want, struct error *e);
enum redis_io redis_tls_read(struct redis_tls *tls, void *data, size_t len, size_t *done, unsigned *want,
                             struct error *e);
enum redis_io redis_tls_write(struct redis_tls *tls, const void *data, size_t len, size_t *done,
                              unsigned *want, struct error *e);
/* The bytes that the last write put into a record but could not send: the next write must begin with them. */
size_t redis_tls_taken(const struct redis_tls *tls);
bool redis_tls_pending(const struct redis_tls *tls);
bool redis_tls_quiet(struct redis_tls *tls);
struct certificates redis_tls_certificates(const struct redis_tls *tls);

#endif
