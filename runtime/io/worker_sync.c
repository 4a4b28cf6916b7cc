#include "io/worker_sync.h"

#include "io/thread.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Shared by the two threads; the last one to finish frees it. */
struct call {
    pthread_mutex_t lock;
    int fd;
    unsigned refs;
    bool done;
    bool abandoned;
    void (*work)(void *arg);
    void (*drop)(void *arg);
    void *arg;
};

static void unref_locked(struct call *c)
{
    bool last = --c->refs == 0;
    pthread_mutex_unlock(&c->lock);
    if (last) {
        close(c->fd);
        pthread_mutex_destroy(&c->lock);
        free(c);
    }
}

static void *call_main(void *p)
{
    struct call *c = p;
    void (*drop)(void *arg) = c->drop;
    void *arg = c->arg;
    c->work(arg);
    pthread_mutex_lock(&c->lock);
    c->done = true;
    bool abandoned = c->abandoned;
    if (!abandoned)
        eventfd_write(c->fd, 1);
    unref_locked(c); /* `c` may be freed now, if the caller has stopped waiting */
    if (abandoned)
        drop(arg);
    return NULL;
}

enum io_status worker_call(void (*work)(void *arg), void (*drop)(void *arg), void *arg, uint64_t deadline,
                           const struct io_interrupt *intr)
{
    struct call *c = calloc(1, sizeof *c);
    if (!c)
        return IO_ERROR;
    c->fd = eventfd(0, EFD_CLOEXEC);
    if (c->fd < 0) {
        free(c); /* leaves errno unchanged */
        return IO_ERROR;
    }
    pthread_mutex_init(&c->lock, NULL);
    c->refs = 2;
    c->work = work;
    c->drop = drop;
    c->arg = arg;
    int rc = thread_start(call_main, c);
    if (rc != 0) {
        pthread_mutex_lock(&c->lock);
        c->refs--;
        unref_locked(c);
        errno = rc;
        return IO_ERROR;
    }
    unsigned ready;
    enum io_status status = io_poll(c->fd, IO_READ, deadline, intr, &ready);
    if (status == IO_ERROR) /* IO_ERROR would say that the function was never started */
        status = IO_TIMEOUT;
    pthread_mutex_lock(&c->lock);
    if (c->done)
        status = IO_READY;
    else
        c->abandoned = true;
    unref_locked(c);
    return status;
}
