#include "connect/redis.h"

#include "base/deadline.h"
#include "connect/login.h"
#include "connect/sentinel.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

_Static_assert(REDIS_IO_READ == IO_READ && REDIS_IO_WRITE == IO_WRITE, "one set of bits for all");

enum {
    KEEPALIVE_IDLE_S = 30,
    KEEPALIVE_INTERVAL_S = 10,
    KEEPALIVE_PROBES = 3,
    USER_TIMEOUT_MS = 30000, /* data unacknowledged for this long means that the peer is gone */
    BACKLOG_PAUSE_MS = 20,
};

/* An address that has not answered for this long is skipped while the host has others. */
#define DEAD_ADDRESS (2 * NS_PER_S)

static const char *hint_for(int err)
{
    switch (err) {
    case ECONNREFUSED:
        return "no server listens there: is it running, and is REDIS_URL right?";
    case ENOENT:
        return "there is no such socket: is the server running, and is REDIS_URL right?";
    case EACCES:
    case EPERM:
        return "this user may not open it: look at the permissions of the socket and its folder, or the "
               "firewall";
    case ETIMEDOUT:
    case EHOSTUNREACH:
    case ENETUNREACH:
        return "the address does not answer: a wrong host, a firewall, or a server that hangs";
    case EMFILE:
    case ENFILE:
        return "no file descriptors are left: raise the limit (ulimit -n), or lower REDIS_MAX_CONNECTIONS";
    default:
        return NULL;
    }
}

static int fail(struct error *e, const struct redis_target *t, const char *layer, int err)
{
    error_set(e, ERROR_CONNECT, "redis at %s: %s: %s", t->label, layer,
              err == ETIMEDOUT ? "no answer before the deadline" : strerror(err));
    error_set_field(e, ERROR_CONTEXT, layer);
    error_set_field(e, ERROR_HINT, t->text[REDIS_ADVICE] ? t->text[REDIS_ADVICE] : hint_for(err));
    e->outcome = OUTCOME_NOT_SENT;
    e->retryable = true;
    return -1;
}

/* Waits until a connect in progress has ended: 0, or its errno. */
static int await_connect(int fd, uint64_t deadline, const struct io_interrupt *intr)
{
    unsigned ready;
    switch (io_poll(fd, IO_WRITE, deadline, intr, &ready)) {
    case IO_READY:
        break;
    case IO_TIMEOUT:
        return ETIMEDOUT;
    case IO_INTERRUPTED:
        return EINTR;
    case IO_ERROR:
        return errno;
    }
    int err = 0;
    socklen_t len = sizeof err;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0)
        return errno;
    return err;
}

/* 0, or the errno. */
static int connect_to(int fd, const struct sockaddr *addr, socklen_t len, uint64_t deadline,
                      const struct io_interrupt *intr)
{
    for (;;) {
        if (connect(fd, addr, len) == 0)
            return 0;
        if (errno == EINPROGRESS || errno == EINTR)
            return await_connect(fd, deadline, intr);
        if (errno != EAGAIN)
            return errno;
        /* The backlog of a unix socket is full; poll(2) does not report when there is room again. */
        unsigned ready;
        uint64_t pause = deadline_min(deadline, mono_now() + BACKLOG_PAUSE_MS * NS_PER_MS);
        if (io_poll(-1, 0, pause, intr, &ready) == IO_INTERRUPTED)
            return EINTR;
        if (deadline_poll_ms(deadline) == 0)
            return ETIMEDOUT;
    }
}

static int open_unix(const struct redis_target *t, uint64_t deadline, const struct io_interrupt *intr,
                     struct error *e)
{
    const char *path = t->text[REDIS_PATH];
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    if (len >= sizeof addr.sun_path) {
        error_set(e, ERROR_CONFIG, "redis at %s: the path of a unix socket may have %zu bytes at most", path,
                  sizeof addr.sun_path - 1);
        return -1;
    }
    memcpy(addr.sun_path, path, len + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fail(e, t, "unix socket", errno);
    int err = connect_to(fd, (struct sockaddr *)&addr, sizeof addr, deadline, intr);
    if (err == 0)
        return fd;
    close(fd);
    return fail(e, t, "unix socket", err);
}

static void tune(int fd)
{
    /* Errors are ignored: without these options the connection is only slower, or slower to notice a dead
     * peer. */
    static const struct {
        int level, name, value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S},
        {IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S},
        {IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES},
        {IPPROTO_TCP, TCP_USER_TIMEOUT, USER_TIMEOUT_MS},
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        (void)setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof options[i].value);
}

/* Tries each address with an equal share of the remaining time, and at most DEAD_ADDRESS while there are
 * others, so that a dead address cannot use all of it. */
static int walk(struct addrinfo *list, uint64_t deadline, const struct io_interrupt *intr, int *err)
{
    uint64_t left = 0;
    for (struct addrinfo *a = list; a; a = a->ai_next)
        left++;
    *err = EHOSTUNREACH;
    for (struct addrinfo *a = list; a; a = a->ai_next, left--) {
        uint64_t now = mono_now();
        uint64_t share = deadline;
        if (deadline != DEADLINE_NEVER && deadline > now)
            share = now + (deadline - now) / left;
        if (left > 1)
            share = deadline_min(share, now + DEAD_ADDRESS);
        int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0) {
            *err = errno;
            continue;
        }
        *err = connect_to(fd, a->ai_addr, a->ai_addrlen, share, intr);
        if (*err == 0)
            return fd;
        close(fd);
        if (*err == EINTR)
            break;
    }
    return -1;
}

static int open_tcp(const struct redis_target *t, uint64_t deadline, const struct io_interrupt *intr,
                    struct error *e)
{
    const char *host = t->text[REDIS_HOST] ? t->text[REDIS_HOST] : "127.0.0.1";
    struct addrinfo want = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    char port[8];
    snprintf(port, sizeof port, "%u", (unsigned)t->port);
    int rc = getaddrinfo(host, port, &want, &list);
    if (rc != 0) {
        error_set(e, ERROR_CONNECT, "redis at %s: name: cannot resolve \"%s\": %s", t->label, host,
                  rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc));
        error_set_field(e, ERROR_CONTEXT, "name");
        error_set_field(e, ERROR_HINT, "check the host in REDIS_URL, and the name server");
        e->outcome = OUTCOME_NOT_SENT;
        e->retryable = rc == EAI_AGAIN;
        return -1;
    }
    int err;
    int fd = walk(list, deadline, intr, &err);
    freeaddrinfo(list);
    if (fd < 0)
        return fail(e, t, "TCP", err);
    tune(fd);
    return fd;
}

static struct redisconn *connect_direct(struct redis_target *t, uint64_t deadline,
                                        const struct io_interrupt *intr, struct error *e)
{
    int fd = t->text[REDIS_PATH] ? open_unix(t, deadline, intr, e) : open_tcp(t, deadline, intr, e);
    if (fd < 0) {
        redis_target_tell(t, NULL);
        return NULL;
    }
    struct redisconn *c = redisconn_new(fd, t, e);
    if (!c) {
        error_set_field(e, ERROR_CONTEXT, t->tls ? "TLS" : "server");
        e->outcome = OUTCOME_NOT_SENT;
        return NULL;
    }
    if (!redis_login(c, t, deadline, intr, e)) {
        redisconn_free(c);
        return NULL;
    }
    return c;
}

struct redisconn *redis_connect(struct redis_target *t, uint64_t deadline, const struct io_interrupt *intr,
                                struct error *e)
{
    if (t->sentinels)
        return redis_sentinel_connect(t, deadline, intr, connect_direct, e);
    return connect_direct(t, deadline, intr, e);
}
