/* --trace: opens the file before the script runs, and closes it when the program ends, in whatever way. */
#include "config.h"
#include "host/host.h"
#include "host/signals.h"
#include "trace/trace.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { DEFAULT_LIMIT = 64 << 20 };

/* Fork handlers get no argument. */
static struct trace *forking;

static void before_fork(void)
{
    if (forking != NULL)
        trace_before_fork(forking);
}

static void after_fork(void)
{
    if (forking != NULL)
        trace_after_fork(forking, false);
}

static void in_child(void)
{
    if (forking != NULL)
        trace_after_fork(forking, true);
}

static void tell(void *data, const char *text)
{
    const struct host *h = data;
    report_line(h->progname, h->rt, text);
}

static const char *script_name(const struct host *h)
{
    if (h->script[0] != '\0')
        return h->script;
    return h->options.action_count > 0 ? "-e" : "the prompt";
}

bool run_trace_open(struct host *h)
{
    const char *path = h->options.trace;
    char text[600];
    if (path == NULL)
        return true;
    struct trace_settings s = {.path = path,
                               .limit = h->options.trace_limit ? h->options.trace_limit : DEFAULT_LIMIT,
                               .version = DBRUN_VERSION,
                               .script = script_name(h),
                               .tell = tell,
                               .data = h};
    const struct embedded_text *page =
        strcmp(path + strlen(path) - 5, ".html") == 0 ? embedded_find_text("viewer.html") : NULL;
    if (page != NULL) {
        s.page = (const char *)page->text;
        s.page_size = page->size;
    }
    h->trace = trace_open(&s);
    if (h->trace == NULL) {
        snprintf(text, sizeof text, "--trace: cannot write %.400s: %s%s", path,
                 errno == EEXIST ? "it is a link that leads to nothing" : strerror(errno),
                 errno == EACCES ? " (the file is replaced: you need the right to write in its folder)" : "");
        report_line(h->progname, NULL, text);
        return false;
    }
    forking = h->trace;
    pthread_atfork(before_fork, after_fork, in_child);
    signals_trace(h->trace);
    return true;
}

void run_trace_attach(struct host *h)
{
    if (h->trace == NULL)
        return;
    h->rt->trace = h->trace;
    trace_mask(h->trace, h->rt->secrets);
    sched_set_trace(h->rt->sched, h->trace);
}

void run_trace_close(struct host *h, int status)
{
    struct trace *trace = h->trace;
    h->trace = forking = NULL;
    signals_trace(NULL);
    trace_close(trace, status);
}
