#include "drive/drive_uv.h"

#include <stdlib.h>

struct drive_uv {
    uv_poll_t poll; /* first: the close callback frees the block */
    void (*ready)(void *data, unsigned events);
    void *data;
    unsigned interest;
};

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct drive_uv *d = (struct drive_uv *)poll;
    unsigned ready = 0;
    if (status < 0) {
        /* The next read or write reports what it is. libuv has stopped watching, but what came before
         * the error may take several reads: the next drive_uv_want must watch again. */
        ready = IO_READ | IO_WRITE;
        d->interest = 0;
    }
    if (events & (UV_READABLE | UV_DISCONNECT))
        ready |= IO_READ;
    if (events & UV_WRITABLE)
        ready |= IO_WRITE;
    d->ready(d->data, ready);
}

struct drive_uv *drive_uv_open(uv_loop_t *loop, int fd, void (*ready)(void *data, unsigned events),
                               void *data)
{
    struct drive_uv *d = calloc(1, sizeof *d);
    if (!d)
        return NULL;
    if (uv_poll_init(loop, &d->poll, fd) != 0) {
        free(d);
        return NULL;
    }
    d->ready = ready;
    d->data = data;
    return d;
}

void drive_uv_want(struct drive_uv *d, unsigned interest)
{
    if (d->interest == interest)
        return;
    d->interest = interest;
    if (!interest) {
        uv_poll_stop(&d->poll);
        return;
    }
    int events = 0;
    if (interest & IO_READ)
        events |= UV_READABLE;
    if (interest & IO_WRITE)
        events |= UV_WRITABLE;
    uv_poll_start(&d->poll, events, on_poll);
}

static void closed(uv_handle_t *h)
{
    free(h);
}

void drive_uv_close(struct drive_uv *d)
{
    if (d)
        uv_close((uv_handle_t *)&d->poll, closed);
}
