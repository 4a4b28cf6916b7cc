#include "trace/file.h"

#include "base/write.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    BLOCK = 64 * 1024, /* written at once */
    ROOM = BLOCK * 2,  /* the lines of an event must fit after a block */
    STACK = 64 * 1024, /* the thread's stack */
};

struct trace_file {
    int fd;
    bool forked;         /* this is a child's copy */
    atomic_bool writing; /* a flush, the thread or a signal handler writes; the handler never clears it */
    bool is_mine;        /* the thread or the handler set `writing`, and may flush */
    void (*fill)(void *data);
    void *data;
    pthread_t thread;
    pthread_mutex_t lock; /* held while lines are made, and while they are written */
    pthread_cond_t wake;
    bool stopping;
    bool threaded;
    _Atomic int failure; /* errno of the first write that failed; later lines are dropped */
    bool told;
    uint64_t size;
    size_t len; /* length of the complete lines */
    char lines[ROOM];
};

/* ---- opening ---- */

static int close_failed(int fd)
{
    int reason = errno;
    close(fd);
    errno = reason;
    return -1;
}

/* A new file replaces the old one once it has its first lines, so that programs that have the old file open
 * cannot read the trace, and the mode is ours. */
static int replace(const char *path, const char *first, size_t len)
{
    char name[PATH_MAX];
    int n = snprintf(name, sizeof name, "%s.XXXXXX", path);
    if (n < 0 || (size_t)n >= sizeof name) {
        errno = ENAMETOOLONG;
        return -1;
    }
    int fd = mkostemp(name, O_CLOEXEC);
    if (fd < 0)
        return -1;
    if (write_all(fd, first, len) && rename(name, path) == 0)
        return fd;
    int reason = errno;
    unlink(name);
    errno = reason;
    return close_failed(fd);
}

/* Opens a device or a pipe. */
static int open_other(const char *path, const char *first, size_t len)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    return fd < 0 || write_all(fd, first, len) ? fd : close_failed(fd);
}

static int open_path(const char *path, const char *first, size_t len)
{
    char target[PATH_MAX];
    struct stat st;
    if (stat(path, &st) != 0) {
        if (errno != ENOENT)
            return -1;
        if (lstat(path, &st) != 0)
            return replace(path, first, len);
        errno = EEXIST; /* a link to nothing */
        return -1;
    }
    if (S_ISDIR(st.st_mode)) {
        errno = EISDIR;
        return -1;
    }
    if (S_ISFIFO(st.st_mode) && st.st_uid != geteuid()) {
        errno = EPERM; /* its creator, in a folder that everyone can write, could read the trace */
        return -1;
    }
    if (!S_ISREG(st.st_mode))
        return open_other(path, first, len);
    if (!realpath(path, target))
        return -1;
    return replace(target, first, len);
}

/* ---- writing ---- */

static void write_lines(struct trace_file *f)
{
    if (f->len > 0 && !f->failure && !f->forked && !write_all(f->fd, f->lines, f->len))
        f->failure = errno;
    f->len = 0;
}

/* Under the lock. */
static void flush(struct trace_file *f)
{
    if (!f->is_mine && atomic_exchange(&f->writing, true))
        return; /* the signal handler reads the lines, and the process ends */
    write_lines(f);
    if (!f->is_mine)
        atomic_store(&f->writing, false);
}

/* Only for the owner of `writing`: makes lines of all records; `now`: also writes them, even less than a
 * block. */
static void fill_lines(struct trace_file *f, bool now)
{
    f->is_mine = true;
    f->fill(f->data);
    if (now)
        write_lines(f);
    f->is_mine = false;
}

static struct timespec in_a_second(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec++;
    return t;
}

static void *work(void *arg)
{
    struct trace_file *f = arg;
    struct timespec until = in_a_second();
    pthread_mutex_lock(&f->lock);
    while (!f->stopping) {
        bool due = pthread_cond_timedwait(&f->wake, &f->lock, &until) == ETIMEDOUT;
        if (atomic_exchange(&f->writing, true))
            break; /* the process ends */
        fill_lines(f, due);
        atomic_store(&f->writing, false);
        if (due)
            until = in_a_second();
    }
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

/* The thread takes no signals: the main thread handles them. Without a thread the file is written in whole
 * blocks. */
void trace_file_start(struct trace_file *f, void (*fill)(void *data), void *data)
{
    sigset_t all;
    sigset_t before;
    pthread_attr_t attr;
    pthread_condattr_t clock;
    f->fill = fill;
    f->data = data;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&f->wake, &clock);
    pthread_condattr_destroy(&clock);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    f->threaded = pthread_create(&f->thread, &attr, work, f) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
}

struct trace_file *trace_file_open(const char *path, const char *first, size_t len)
{
    struct trace_file *f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    f->fd = open_path(path, first, len);
    if (f->fd < 0) {
        int reason = errno;
        free(f);
        errno = reason;
        return NULL;
    }
    pthread_mutex_init(&f->lock, NULL);
    return f;
}

/* ---- lines ---- */

void trace_file_wake(struct trace_file *f)
{
    if (f->threaded)
        pthread_cond_signal(&f->wake);
}

void trace_file_lock(struct trace_file *f)
{
    pthread_mutex_lock(&f->lock);
}

void trace_file_unlock(struct trace_file *f)
{
    pthread_mutex_unlock(&f->lock);
}

char *trace_file_begin(struct trace_file *f, size_t most)
{
    if (f->failure || f->forked || most > ROOM - BLOCK)
        return NULL;
    if (f->len >= BLOCK || f->len + most > ROOM)
        flush(f);
    return f->len + most <= ROOM ? f->lines + f->len : NULL;
}

void trace_file_end(struct trace_file *f, const char *at)
{
    size_t len = (size_t)(at - f->lines);
    f->size += len - f->len;
    f->len = len;
}

uint64_t trace_file_size(const struct trace_file *f)
{
    return f->size;
}

bool trace_file_has_failed(const struct trace_file *f)
{
    return f->failure != 0;
}

int trace_file_failure(struct trace_file *f)
{
    if (!f->failure || f->told || f->forked)
        return 0;
    f->told = true;
    return f->failure;
}

/* The signal may have interrupted code that holds the lock while it makes a line: so the complete lines
 * before it are written without the lock. If they are being written just now, waits a moment. An event whose
 * line had just ended can be written twice. */
void trace_file_rescue(struct trace_file *f)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    bool busy = atomic_exchange(&f->writing, true);
    for (int i = 0; i < 100 && busy; i++) {
        nanosleep(&pause, NULL);
        busy = atomic_exchange(&f->writing, true);
    }
    if (!busy)
        fill_lines(f, true);
}

void trace_file_before_fork(struct trace_file *f)
{
    pthread_mutex_lock(&f->lock);
}

void trace_file_after_fork(struct trace_file *f, bool child)
{
    f->forked = f->forked || child;
    pthread_mutex_unlock(&f->lock);
}

int trace_file_close(struct trace_file *f)
{
    if (f->threaded && !f->forked) {
        pthread_mutex_lock(&f->lock);
        f->stopping = true;
        pthread_cond_signal(&f->wake);
        pthread_mutex_unlock(&f->lock);
        pthread_join(f->thread, NULL);
    }
    flush(f);
    if (close(f->fd) != 0 && !f->failure)
        f->failure = errno;
    int failure = trace_file_failure(f);
    free(f);
    return failure;
}
