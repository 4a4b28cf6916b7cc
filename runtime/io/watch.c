#include "io/watch.h"

#include <stdlib.h>

struct io_watch {
    uv_poll_t poll; /* first: the close callback has a pointer to it */
    void (*ready)(void *data, unsigned events);
    void *data;
    unsigned interest;
    bool stopped; /* libuv has stopped watching, although `interest` is not 0 */
    bool ended; /* the handle is closed: its last callback frees the block if it was released, else the owner
                   does */
    bool released;
};

static void on_poll(uv_poll_t *poll, int status, int events);

static void watch(struct io_watch *d)
{
    int events = 0;
    if (d->interest & IO_READ)
        events |= UV_READABLE;
    if (d->interest & IO_WRITE)
        events |= UV_WRITABLE;
    d->stopped = false;
    uv_poll_start(&d->poll, events, on_poll);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct io_watch *d = (struct io_watch *)poll;
    unsigned ready = 0;
    if (status < 0) {
        /* The next read or write reports the error. libuv has stopped watching, but the bytes before the
         * error may take several reads. */
        ready = IO_READ | IO_WRITE;
        d->stopped = true;
    }
    if (events & (UV_READABLE | UV_DISCONNECT))
        ready |= IO_READ;
    if (events & UV_WRITABLE)
        ready |= IO_WRITE;
    d->ready(d->data, ready);
    /* The block still exists after a close: the close callback frees it. */
    if (d->stopped && d->interest && !uv_is_closing((uv_handle_t *)poll))
        watch(d);
}

static void closed(uv_handle_t *h)
{
    struct io_watch *d = (struct io_watch *)h;
    d->ended = true;
    if (d->released)
        free(d);
}

/* Another watch has the same descriptor number: its descriptor was closed without io_watch_close, as libpq
 * does with a broken connection. When that watch stops or ends, it would remove the new descriptor from
 * epoll. */
static void forget(uv_handle_t *h, void *fd)
{
    uv_os_fd_t other;
    if (h->type != UV_POLL || uv_is_closing(h) || uv_fileno(h, &other) != 0 || other != *(int *)fd)
        return;
    ((struct io_watch *)h)->interest = 0;
    uv_close(h, closed);
}

struct io_watch *io_watch_open(uv_loop_t *loop, int fd, void (*ready)(void *data, unsigned events),
                               void *data)
{
    struct io_watch *d = calloc(1, sizeof *d);
    if (!d)
        return NULL;
    uv_walk(loop, forget, &fd);
    if (uv_poll_init(loop, &d->poll, fd) != 0) {
        free(d);
        return NULL;
    }
    d->ready = ready;
    d->data = data;
    return d;
}

void io_watch_want(struct io_watch *d, unsigned interest)
{
    if (d->interest == interest || uv_is_closing((uv_handle_t *)&d->poll))
        return;
    d->interest = interest;
    if (interest)
        watch(d);
    else
        uv_poll_stop(&d->poll);
}

void io_watch_close(struct io_watch *d)
{
    if (!d)
        return;
    d->released = true;
    if (d->ended)
        free(d);
    else if (!uv_is_closing((uv_handle_t *)&d->poll))
        uv_close((uv_handle_t *)&d->poll, closed);
}
