#include "bind/os/child_input.h"

#include "base/deadline.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

/* How often the loop writes in a row for one child, because a child that reads fast must not block the
 * loop. */
#define FEEDS_IN_A_ROW 4

/* A write to a pipe without a reader raises SIGPIPE, which a stock lua does not ignore: block it for this
 * thread, and discard it when this write caused it. */
static ssize_t write_quietly(int fd, const void *data, size_t len)
{
    sigset_t pipe_only, old, pending;
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_only, &old);
    ssize_t n;
    do
        n = write(fd, data, len);
    while (n < 0 && errno == EINTR);
    int err = errno;
    if (n < 0 && err == EPIPE && !sigismember(&old, SIGPIPE) && sigpending(&pending) == 0 &&
        sigismember(&pending, SIGPIPE))
        sigtimedwait(&pipe_only, NULL, &(struct timespec){0});
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    errno = err;
    return n;
}

void child_input_wake(struct child_input *in)
{
    struct wait *w = in->writer;
    in->writer = NULL;
    wait_wake(w);
}

void child_input_close(struct child_input *in, enum child_input_state why)
{
    if (in->fd < 0)
        return;
    io_watch_close(in->watch);
    in->watch = NULL;
    close(in->fd);
    in->fd = -1;
    in->fed = NULL;
    if (in->state == CHILD_INPUT_OPEN || why == CHILD_INPUT_BROKEN)
        in->state = why;
    child_input_wake(in);
    wait_queue_wake(&in->turns);
}

ssize_t child_input_write(struct child_input *in, const char *data, size_t len)
{
    ssize_t n = write_quietly(in->fd, data, len);
    if (n >= 0)
        return n;
    if (errno == EAGAIN)
        return 0;
    child_input_close(in, CHILD_INPUT_BROKEN);
    return -1;
}

static void feed(struct child_input *in)
{
    for (int i = 0; i < FEEDS_IN_A_ROW && in->fed_left > 0; i++) {
        ssize_t n = child_input_write(in, in->fed, in->fed_left);
        if (n < 0)
            return;
        if (n == 0)
            break;
        in->fed += n;
        in->fed_left -= (size_t)n;
    }
    if (in->fed_left == 0)
        child_input_close(in, CHILD_INPUT_FED);
    else
        io_watch_want(in->watch, IO_WRITE);
}

static void on_ready(void *data, unsigned events)
{
    struct child_input *in = data;
    (void)events;
    if (in->fed)
        feed(in);
    else if (in->writer)
        child_input_wake(in);
    else
        io_watch_want(in->watch, 0);
}

bool child_input_open(struct child_input *in, uv_loop_t *loop, int fd)
{
    in->fd = fd;
    if (fd < 0)
        return true;
    in->state = CHILD_INPUT_OPEN;
    in->turned = mono_now();
    in->watch = io_watch_open(loop, fd, on_ready, in);
    return in->watch != NULL;
}

void child_input_feed(struct child_input *in, const char *text, size_t len)
{
    if (in->fd < 0)
        return;
    in->state = CHILD_INPUT_FED;
    in->fed = text;
    in->fed_left = len;
    feed(in);
}

void child_input_end(struct child_input *in)
{
    if (in->state != CHILD_INPUT_OPEN)
        return;
    in->state = CHILD_INPUT_ENDED;
    if (!in->busy)
        child_input_close(in, CHILD_INPUT_ENDED);
}

void child_input_next(struct child_input *in)
{
    struct wait *w = wait_queue_pop(&in->turns);
    in->written = 0;
    in->busy = w != NULL;
    wait_wake(w);
    if (!w && in->state == CHILD_INPUT_ENDED)
        child_input_close(in, CHILD_INPUT_ENDED);
}

void child_input_give_up(struct child_input *in)
{
    if (in->written > 0)
        in->cut = in->written;
    child_input_next(in);
}

void child_input_wait(struct child_input *in, struct wait *w)
{
    in->writer = w;
    io_watch_want(in->watch, IO_WRITE);
}

void child_input_abandon_turn(struct wait *w)
{
    struct child_input *in = w->data;
    wait_queue_remove(&in->turns, w);
}

void child_input_abandon(struct wait *w)
{
    struct child_input *in = w->data;
    in->writer = NULL;
    child_input_give_up(in);
}
