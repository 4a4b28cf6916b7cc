#include "io/borrowed.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

struct io_borrowed {
    int epoll; /* readable when the borrowed descriptor is */
    struct io_watch *watch;
};

struct io_borrowed *io_borrowed_open(uv_loop_t *loop, int fd, void (*ready)(void *data, unsigned events),
                                     void *data)
{
    struct epoll_event readable = {.events = EPOLLIN};
    struct io_borrowed *b = calloc(1, sizeof *b);
    if (!b)
        return NULL;
    b->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (b->epoll >= 0 && epoll_ctl(b->epoll, EPOLL_CTL_ADD, fd, &readable) == 0) {
        b->watch = io_watch_open(loop, b->epoll, ready, data);
        if (b->watch)
            return b;
        errno = ENOMEM;
    }
    int reason = errno;
    io_borrowed_close(b);
    errno = reason;
    return NULL;
}

void io_borrowed_want(struct io_borrowed *b, bool wanted)
{
    io_watch_want(b->watch, wanted ? IO_READ : 0);
}

void io_borrowed_close(struct io_borrowed *b)
{
    if (!b)
        return;
    io_watch_close(b->watch);
    if (b->epoll >= 0)
        close(b->epoll);
    free(b);
}
