#include "io/worker.h"

#include "io/thread.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

/* Shared by the loop and the threads; the last of them frees it. */
struct workers {
    pthread_mutex_t lock;
    uv_async_t *async; /* NULL once closed */
    struct job *done;  /* finished, newest first */
    unsigned refs;     /* the owner and each running job */
    unsigned running;
};

static void unref_locked(struct workers *w)
{
    bool last = --w->refs == 0;
    pthread_mutex_unlock(&w->lock);
    if (last) {
        pthread_mutex_destroy(&w->lock);
        free(w);
    }
}

static void on_done(uv_async_t *async)
{
    struct workers *w = async->data;
    pthread_mutex_lock(&w->lock);
    struct job *list = w->done;
    w->done = NULL;
    pthread_mutex_unlock(&w->lock);
    struct job *in_order = NULL;
    while (list) {
        struct job *j = list;
        list = j->next;
        j->next = in_order;
        in_order = j;
    }
    while (in_order) {
        struct job *j = in_order;
        in_order = j->next;
        /* Only running jobs keep the loop alive. */
        if (--w->running == 0)
            uv_unref((uv_handle_t *)w->async);
        j->done(j);
    }
}

struct workers *workers_new(uv_loop_t *loop)
{
    struct workers *w = calloc(1, sizeof *w);
    uv_async_t *async = calloc(1, sizeof *async);
    if (!w || !async || uv_async_init(loop, async, on_done) != 0) {
        free(w);
        free(async);
        return NULL;
    }
    pthread_mutex_init(&w->lock, NULL);
    async->data = w;
    uv_unref((uv_handle_t *)async);
    w->async = async;
    w->refs = 1;
    return w;
}

static void free_async(uv_handle_t *h)
{
    free(h);
}

void workers_close(struct workers *w)
{
    pthread_mutex_lock(&w->lock);
    uv_async_t *async = w->async;
    struct job *list = w->done;
    w->async = NULL;
    w->done = NULL;
    unref_locked(w);
    uv_close((uv_handle_t *)async, free_async);
    while (list) {
        struct job *j = list;
        list = j->next;
        j->drop(j);
    }
}

static void *thread_main(void *arg)
{
    struct job *j = arg;
    struct workers *w = j->workers;
    j->work(j);
    pthread_mutex_lock(&w->lock);
    bool wanted = w->async != NULL;
    if (wanted) {
        j->next = w->done;
        w->done = j;
        uv_async_send(w->async);
    }
    unref_locked(w);
    if (!wanted)
        j->drop(j);
    return NULL;
}

bool workers_run(struct workers *w, struct job *j)
{
    j->workers = w;
    pthread_mutex_lock(&w->lock);
    w->refs++;
    pthread_mutex_unlock(&w->lock);
    int rc = thread_start(thread_main, j);
    if (rc != 0) {
        pthread_mutex_lock(&w->lock);
        unref_locked(w);
        errno = rc;
        return false;
    }
    if (w->running++ == 0)
        uv_ref((uv_handle_t *)w->async);
    return true;
}
