#include "host/suspend.h"

#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>

struct suspend {
    uv_signal_t stop; /* SIGTSTP */
    uv_signal_t go_on;
    const struct editline *edit;
    int open; /* number of handles that are not closed yet */
    bool ignored;
};

static void on_stop(uv_signal_t *handle, int number);

static void watch_stop(struct suspend *s)
{
    if (!s->ignored)
        uv_signal_start(&s->stop, on_stop, SIGTSTP);
}

static void on_stop(uv_signal_t *handle, int number)
{
    struct suspend *s = handle->data;
    s->edit->restore();
    uv_signal_stop(&s->stop); /* restores the signal's default effect */
    raise(number);            /* stops here, unless no shell could continue the process */
    watch_stop(s);
    s->edit->prepare(1);
}

/* Also runs after SIGSTOP, because a shell may have changed the modes meanwhile. */
static void on_go_on(uv_signal_t *handle, int number)
{
    (void)number;
    struct suspend *s = handle->data;
    s->edit->prepare(1);
    s->edit->redraw();
}

static void closed(uv_handle_t *handle)
{
    struct suspend *s = handle->data;
    if (--s->open == 0)
        free(s);
}

struct suspend *suspend_open(uv_loop_t *loop, const struct editline *edit)
{
    struct sigaction sa;
    struct suspend *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->edit = edit;
    s->stop.data = s->go_on.data = s;
    s->ignored = sigaction(SIGTSTP, NULL, &sa) == 0 && sa.sa_handler == SIG_IGN;
    if (uv_signal_init(loop, &s->stop) != 0) {
        free(s);
        return NULL;
    }
    uv_unref((uv_handle_t *)&s->stop);
    s->open = 1;
    if (uv_signal_init(loop, &s->go_on) != 0) {
        uv_close((uv_handle_t *)&s->stop, closed);
        return NULL;
    }
    uv_unref((uv_handle_t *)&s->go_on);
    s->open = 2;
    return s;
}

void suspend_watch(struct suspend *s)
{
    if (s == NULL)
        return;
    watch_stop(s);
    uv_signal_start(&s->go_on, on_go_on, SIGCONT);
}

void suspend_unwatch(struct suspend *s)
{
    if (s == NULL)
        return;
    uv_signal_stop(&s->stop);
    uv_signal_stop(&s->go_on);
}

void suspend_close(struct suspend *s)
{
    if (s == NULL)
        return;
    uv_close((uv_handle_t *)&s->stop, closed);
    uv_close((uv_handle_t *)&s->go_on, closed);
}
