#include "redis/transport.h"

#include "redis/tls.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

bool redis_transport_open(struct redis_transport *t, int fd, const struct redis_target *target,
                          struct error *e)
{
    *t = (struct redis_transport){.fd = fd};
    if (!target->tls)
        return true;
    t->tls = redis_tls_new(target, fd, e);
    return t->tls != NULL;
}

enum redis_io redis_transport_handshake(struct redis_transport *t, struct error *e)
{
    return t->tls ? redis_tls_handshake(t->tls, &t->want, e) : REDIS_IO_OK;
}

/* What a failed recv or send means. */
static enum redis_io socket_failure(struct redis_transport *t, unsigned want, const char *what,
                                    struct error *e)
{
    int err = errno;
    if (err == EAGAIN || err == EWOULDBLOCK || err == EINTR) {
        t->want = want;
        return REDIS_IO_AGAIN;
    }
    if (err == ECONNRESET || err == EPIPE)
        return REDIS_IO_CLOSED;
    error_set(e, ERROR_CONNECT, "%s: %s", what, strerror(err));
    return REDIS_IO_FAILED;
}

enum redis_io redis_transport_read(struct redis_transport *t, void *data, size_t len, size_t *done,
                                   struct error *e)
{
    *done = 0;
    if (t->tls)
        return redis_tls_read(t->tls, data, len, done, &t->want, e);
    ssize_t n = recv(t->fd, data, len, 0);
    if (n == 0)
        return REDIS_IO_CLOSED;
    if (n < 0)
        return socket_failure(t, REDIS_IO_READ, "reading", e);
    *done = (size_t)n;
    return REDIS_IO_OK;
}

enum redis_io redis_transport_write(struct redis_transport *t, const void *data, size_t len, size_t *done,
                                    struct error *e)
{
    *done = 0;
    if (t->tls)
        return redis_tls_write(t->tls, data, len, done, &t->want, e);
    ssize_t n = send(t->fd, data, len, MSG_NOSIGNAL);
    if (n < 0)
        return socket_failure(t, REDIS_IO_WRITE, "writing", e);
    *done = (size_t)n;
    return REDIS_IO_OK;
}

size_t redis_transport_taken(const struct redis_transport *t)
{
    return t->tls ? redis_tls_taken(t->tls) : 0;
}

bool redis_transport_pending(const struct redis_transport *t)
{
    return t->tls && redis_tls_pending(t->tls);
}

bool redis_transport_quiet(struct redis_transport *t)
{
    if (t->tls)
        return redis_tls_quiet(t->tls);
    char byte;
    ssize_t n = recv(t->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
}

void redis_transport_close(struct redis_transport *t)
{
    redis_tls_free(t->tls);
    t->tls = NULL;
    if (t->fd >= 0)
        close(t->fd);
    t->fd = -1;
}

struct certificates redis_transport_certificates(const struct redis_transport *t)
{
    return t->tls ? redis_tls_certificates(t->tls) : certificates_of(NULL);
}
