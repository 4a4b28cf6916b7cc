#include "bind/os/child.h"

#include "base/deadline.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define READ_CHUNK 65536
/* The most output kept of a stdout that is read line by line, while no task waits for more. */
#define READ_AHEAD ((size_t)1024 * 1024)

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

/* Moves the rest to the front only occasionally, because moving it each time would take quadratic time. */
static void stream_take(struct child_stream *st, size_t n)
{
    st->off += n;
    if (st->off == st->buf.len || (st->off > READ_CHUNK && st->off > st->buf.len / 2)) {
        buf_consume(&st->buf, st->off);
        st->off = 0;
    }
}

static size_t held(const struct child *c, int stream)
{
    return c->out[stream - 1].buf.len - c->out[stream - 1].off;
}

/* True when the script has asked for more of stdout than is there, also after its wait has timed out. */
static bool is_asked(struct child *c)
{
    size_t len;
    if (c->asked != CHILD_WANT_LINE)
        return true;
    child_line(c, &len);
    return len == 0;
}

/* True when more of the stream can be read. */
static bool has_room(struct child *c, int stream)
{
    size_t limit = c->opts.limit ? c->opts.limit : SIZE_MAX;
    if (c->discard)
        return true;
    if (stream == 1 && c->opts.paced && limit > READ_AHEAD && held(c, 1) >= READ_AHEAD && !is_asked(c))
        return false;
    return held(c, stream) <= limit;
}

static void watch_output(struct child *c)
{
    for (int i = 1; i <= 2; i++)
        if (c->out[i - 1].fd >= 0)
            io_watch_want(c->out[i - 1].watch, has_room(c, i) ? IO_READ : 0);
}

static bool read_chunk(struct child_stream *st)
{
    ssize_t n = -1;
    if (buf_reserve(&st->buf, READ_CHUNK)) {
        do
            n = read(st->fd, st->buf.data + st->buf.len, READ_CHUNK);
        while (n < 0 && errno == EINTR);
        if (n < 0 && errno == EAGAIN)
            return false;
    }
    if (n <= 0) {
        stream_close(st);
        return false;
    }
    st->buf.len += (size_t)n;
    st->buf.data[st->buf.len] = '\0';
    return true;
}

/* Reads at most a few chunks, so that a child with much output does not block the loop. */
static void stream_ready(void *data, unsigned events)
{
    (void)events;
    struct child_stream *st = data;
    struct child *c = st->child;
    int stream = (int)(st - c->out) + 1;
    for (int i = 0; i < 4 && has_room(c, stream); i++) {
        if (c->discard) {
            buf_clear(&st->buf);
            st->off = c->searched = 0;
        }
        if (!read_chunk(st))
            break;
    }
    child_wake(c);
    if (child_over(c, c->asked))
        child_input_wake(&c->in); /* a child that blocks in its write reads nothing */
    watch_output(c);
}

static bool stream_open(struct child *c, int stream, int fd)
{
    struct child_stream *st = &c->out[stream - 1];
    st->child = c;
    st->fd = fd;
    if (fd < 0)
        return true;
    st->watch = io_watch_open(sched_loop(c->set->sched), fd, stream_ready, st);
    return st->watch != NULL;
}

/* ---- the end of a child ---- */

static void child_free(struct child *c)
{
    sched_timer_stop(c->set->sched, &c->kill_timer);
    child_input_close(&c->in, CHILD_INPUT_ENDED);
    for (int i = 0; i < 2; i++) {
        stream_close(&c->out[i]);
        buf_free(&c->out[i].buf);
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
    child_input_close(&c->in, CHILD_INPUT_BROKEN);
    if (c->ending)
        sched_background(set->sched, -1);
    c->ending = false;
    wait_queue_wake(&c->exits);
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
        /* ECHILD: other code in this process took its status, so the child has ended with an unknown
         * status. */
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
    wait_queue_wake(&c->exits);
    child_input_close(&c->in, CHILD_INPUT_ENDED);
    for (int i = 0; i < 2; i++)
        stream_close(&c->out[i]);
    if (c->exited) {
        child_free(c);
        return;
    }
    if (c->opts.detached)
        return;
    child_terminate(c);
    c->ending = true;
    sched_background(c->set->sched, 1);
}

/* ---- functions for process.c ---- */

void child_discard(struct child *c)
{
    c->discard = true;
    watch_output(c);
}

void child_ask(struct child *c, enum child_want want)
{
    if (want != CHILD_WANT_EXIT)
        c->asked = want;
}

bool child_is_awaited(const struct child *c, enum child_want want)
{
    return want != CHILD_WANT_EXIT && c->wait != NULL;
}

void child_abandon(struct wait *w)
{
    struct child *c = w->data;
    if (c->wait == w)
        c->wait = NULL;
    else
        wait_queue_remove(&c->exits, w);
}

void child_wait(struct child *c, enum child_want want, struct wait *w)
{
    if (want == CHILD_WANT_EXIT) {
        wait_queue_push(&c->exits, w);
        return;
    }
    c->want = want;
    c->wait = w;
    watch_output(c);
}

const char *child_output(struct child *c, int stream, size_t *len)
{
    struct child_stream *st = &c->out[stream - 1];
    *len = st->buf.len - st->off;
    return st->buf.data ? st->buf.data + st->off : "";
}

void child_take(struct child *c, int stream, size_t n)
{
    stream_take(&c->out[stream - 1], n);
    c->searched = 0;
    watch_output(c);
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
    else if (c->out[0].fd < 0)
        *len = have;
    return text;
}

bool child_lost_output(const struct child *c)
{
    return c->out[0].buf.oom || c->out[1].buf.oom;
}

int child_over(struct child *c, enum child_want want)
{
    size_t len, limit = c->opts.limit;
    if (!limit || c->discard || want == CHILD_WANT_EXIT)
        return 0;
    if (want == CHILD_WANT_LINE) {
        child_line(c, &len);
        if ((len ? len : held(c, 1)) > limit)
            return 1;
    } else if (held(c, 1) > limit) {
        return 1;
    }
    return held(c, 2) > limit ? 2 : 0;
}

bool child_has(struct child *c, enum child_want want)
{
    size_t len;
    if (child_over(c, want))
        return true;
    switch (want) {
    case CHILD_WANT_EXIT:
        return c->exited;
    case CHILD_WANT_LINE:
        child_line(c, &len);
        return len > 0 || c->out[0].fd < 0;
    case CHILD_WANT_END:
        break;
    }
    return c->exited && c->out[0].fd < 0 && c->out[1].fd < 0;
}

/* ---- the set ---- */

struct child *child_start(struct child_set *set, const struct spawn *s, const struct child_options *opts,
                          struct error *e)
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
    *c = (struct child){.next = set->children,
                        .set = set,
                        .opts = *opts,
                        .asked = CHILD_WANT_END,
                        .pid = sp.pid,
                        .held = true};
    snprintf(c->name, sizeof c->name, "%s", s->argv[0]);
    c->kill_timer = (struct sched_timer){.fn = on_kill_timer, .data = c};
    if (c->next)
        c->next->prev = c;
    set->children = c;
    bool ok = child_input_open(&c->in, sched_loop(set->sched), sp.pipe[0]);
    for (int i = 1; i <= 2; i++)
        ok = stream_open(c, i, sp.pipe[i]) && ok;
    if (!ok) {
        error_set(e, ERROR_IO, "cannot watch the streams of '%s': not enough memory or descriptors",
                  s->argv[0]);
        c->opts.detached = false;
        child_release(c);
        return NULL;
    }
    watch_output(c);
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
        if (!c->exited && !c->opts.detached && kill(c->pid, SIGKILL) == 0)
            waitpid(c->pid, NULL, WNOHANG);
        if (c->ending)
            sched_background(set->sched, -1);
        child_free(c);
    }
    uv_close((uv_handle_t *)&set->sigchld, set_freed);
}
