#include "bind/os/child.h"

#include "base/deadline.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define READ_CHUNK 65536

struct child_set {
    struct sched *sched;
    struct child *children;
    uv_signal_t sigchld; /* started while a child runs */
    unsigned running;
};

static void child_wake(struct child *c)
{
    if (!c->wait || !child_has(c, c->want))
        return;
    struct wait *w = c->wait;
    c->wait = NULL;
    wait_wake(w);
}

/* ---- streams ---- */

static void stream_close(struct child_stream *st)
{
    if (st->fd < 0)
        return;
    io_watch_close(st->watch);
    st->watch = NULL;
    close(st->fd);
    st->fd = -1;
}

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

/* Moves the rest to the front only now and then: each time would take quadratic time. */
static void stream_take(struct child_stream *st, size_t n)
{
    st->off += n;
    if (st->off == st->buf.len || (st->off > READ_CHUNK && st->off > st->buf.len / 2)) {
        buf_consume(&st->buf, st->off);
        st->off = 0;
    }
}

static void stdin_flush(struct child_stream *st)
{
    while (st->fd >= 0 && st->buf.len > 0) {
        ssize_t n = write_quietly(st->fd, st->buf.data + st->off, st->buf.len - st->off);
        if (n < 0 && errno == EAGAIN) {
            io_watch_want(st->watch, IO_WRITE);
            return;
        }
        if (n < 0) { /* the child does not read any more */
            buf_clear(&st->buf);
            stream_close(st);
            return;
        }
        stream_take(st, (size_t)n);
    }
    if (st->fd < 0)
        return;
    io_watch_want(st->watch, 0);
    if (st->close_due)
        stream_close(st);
}

/* Reads at most a few chunks, so that a child with much output does not hold up the loop. */
static void output_read(struct child_stream *st)
{
    for (int i = 0; i < 4; i++) {
        if (!buf_reserve(&st->buf, READ_CHUNK)) {
            stream_close(st);
            return;
        }
        ssize_t n;
        do
            n = read(st->fd, st->buf.data + st->buf.len, READ_CHUNK);
        while (n < 0 && errno == EINTR);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            stream_close(st);
            return;
        }
        st->buf.len += (size_t)n;
        st->buf.data[st->buf.len] = '\0';
    }
}

static void stream_ready(void *data, unsigned events)
{
    (void)events;
    struct child_stream *st = data;
    struct child *c = st->child;
    if (st == &c->io[0])
        stdin_flush(st);
    else
        output_read(st);
    child_wake(c);
}

static bool stream_open(struct child *c, int i, int fd)
{
    struct child_stream *st = &c->io[i];
    st->child = c;
    st->fd = fd;
    if (fd < 0)
        return true;
    st->watch = io_watch_open(sched_loop(c->set->sched), fd, stream_ready, st);
    if (!st->watch)
        return false;
    io_watch_want(st->watch, i == 0 ? 0 : IO_READ);
    return true;
}

/* ---- the end of a child ---- */

static void child_free(struct child *c)
{
    sched_timer_stop(c->set->sched, &c->kill_timer);
    for (int i = 0; i < 3; i++) {
        stream_close(&c->io[i]);
        buf_free(&c->io[i].buf);
    }
    if (c->prev)
        c->prev->next = c->next;
    else
        c->set->children = c->next;
    if (c->next)
        c->next->prev = c->prev;
    free(c);
}

static void child_ended(struct child *c)
{
    struct child_set *set = c->set;
    c->exited = true;
    sched_timer_stop(set->sched, &c->kill_timer);
    stream_close(&c->io[0]);
    if (c->ending)
        sched_background(set->sched, -1);
    c->ending = false;
    if (--set->running == 0)
        uv_signal_stop(&set->sigchld);
    if (c->held)
        child_wake(c);
    else
        child_free(c);
}

static void on_sigchld(uv_signal_t *handle, int signum)
{
    (void)signum;
    struct child_set *set = handle->data;
    for (struct child *c = set->children, *next; c; c = next) {
        next = c->next;
        int status;
        if (c->exited)
            continue;
        pid_t pid = waitpid(c->pid, &status, WNOHANG);
        if (pid == 0 || (pid < 0 && errno == EINTR))
            continue;
        /* ECHILD: other code in this process took its status; it has ended, but the status is unknown. */
        c->status = pid < 0 ? -1 : status;
        child_ended(c);
    }
}

static void on_kill_timer(struct sched_timer *t)
{
    child_kill(t->data, SIGKILL);
}

bool child_kill(struct child *c, int sig)
{
    if (c->exited) {
        errno = ESRCH;
        return false;
    }
    return kill(c->pid, sig) == 0;
}

void child_terminate(struct child *c)
{
    if (c->exited)
        return;
    child_kill(c, SIGTERM);
    child_kill(c, SIGCONT); /* a stopped process does not handle SIGTERM */
    sched_timer_stop(c->set->sched, &c->kill_timer);
    double grace = sched_interrupted(c->set->sched) ? CHILD_KILL_GRACE_INTERRUPTED_S : CHILD_KILL_GRACE_S;
    sched_timer_start(c->set->sched, &c->kill_timer, deadline_in(grace));
}

void child_release(struct child *c)
{
    c->held = false;
    struct wait *w = c->wait;
    c->wait = NULL;
    wait_wake(w);
    for (int i = 0; i < 3; i++)
        stream_close(&c->io[i]);
    if (c->exited) {
        child_free(c);
        return;
    }
    if (c->detached)
        return;
    child_terminate(c);
    c->ending = true;
    sched_background(c->set->sched, 1);
}

/* ---- functions for process.c ---- */

bool child_write(struct child *c, const char *data, size_t len)
{
    struct child_stream *st = &c->io[0];
    if (st->fd < 0)
        return true;
    if (!buf_add(&st->buf, data, len))
        return false;
    stdin_flush(st);
    return true;
}

void child_close_stdin(struct child *c)
{
    c->io[0].close_due = true;
    stdin_flush(&c->io[0]);
}

const char *child_output(struct child *c, int stream, size_t *len)
{
    struct child_stream *st = &c->io[stream];
    *len = st->buf.len - st->off;
    return st->buf.data ? st->buf.data + st->off : "";
}

void child_take(struct child *c, int stream, size_t n)
{
    stream_take(&c->io[stream], n);
    c->searched = 0;
}

const char *child_line(struct child *c, size_t *len)
{
    size_t have;
    const char *text = child_output(c, 1, &have);
    const char *nl = have > c->searched ? memchr(text + c->searched, '\n', have - c->searched) : NULL;
    c->searched = have;
    *len = nl ? (size_t)(nl - text) + 1 : 0;
    if (nl)
        c->searched = (size_t)(nl - text); /* so that it is found again */
    else if (c->io[1].fd < 0)
        *len = have;
    return text;
}

bool child_lost_output(const struct child *c)
{
    return c->io[1].buf.oom || c->io[2].buf.oom;
}

bool child_has(struct child *c, enum child_want want)
{
    size_t len;
    switch (want) {
    case CHILD_WANT_EXIT:
        return c->exited;
    case CHILD_WANT_LINE:
        child_line(c, &len);
        return len > 0 || c->io[1].fd < 0;
    case CHILD_WANT_END:
        break;
    }
    return c->exited && c->io[1].fd < 0 && c->io[2].fd < 0;
}

/* ---- the set ---- */

struct child *child_start(struct child_set *set, const struct spawn *s, bool detached, struct error *e)
{
    struct child *c = calloc(1, sizeof(*c));
    struct spawned sp;
    if (!c) {
        error_set(e, ERROR_IO, "cannot start '%s': not enough memory", s->argv[0]);
        return NULL;
    }
    /* Before the fork: if SIGCHLD is ignored, the status of a child that ends at once is lost. */
    int rc = set->running ? 0 : uv_signal_start(&set->sigchld, on_sigchld, SIGCHLD);
    if (rc < 0)
        error_set(e, ERROR_IO, "cannot start '%s': %s", s->argv[0], uv_strerror(rc));
    if (rc < 0 || !spawn_start(s, &sp, e)) {
        if (!set->running)
            uv_signal_stop(&set->sigchld);
        free(c);
        return NULL;
    }
    set->running++;
    *c = (struct child){.next = set->children, .set = set, .pid = sp.pid, .detached = detached, .held = true};
    c->kill_timer = (struct sched_timer){.fn = on_kill_timer, .data = c};
    if (c->next)
        c->next->prev = c;
    set->children = c;
    bool ok = true;
    for (int i = 0; i < 3; i++)
        ok = stream_open(c, i, sp.pipe[i]) && ok;
    if (!ok) {
        error_set(e, ERROR_IO, "cannot watch the streams of '%s': not enough memory or descriptors",
                  s->argv[0]);
        c->detached = false;
        child_release(c);
        return NULL;
    }
    return c;
}

struct child_set *child_set_new(struct sched *s)
{
    struct child_set *set = calloc(1, sizeof(*set));
    if (!set)
        return NULL;
    int rc = uv_signal_init(sched_loop(s), &set->sigchld);
    if (rc < 0) {
        free(set);
        errno = -rc;
        return NULL;
    }
    set->sched = s;
    set->sigchld.data = set;
    return set;
}

static void set_freed(uv_handle_t *handle)
{
    free(handle->data);
}

void child_set_close(struct child_set *set)
{
    while (set->children) {
        struct child *c = set->children;
        if (!c->exited && !c->detached && kill(c->pid, SIGKILL) == 0)
            waitpid(c->pid, NULL, WNOHANG);
        if (c->ending)
            sched_background(set->sched, -1);
        child_free(c);
    }
    uv_close((uv_handle_t *)&set->sigchld, set_freed);
}
