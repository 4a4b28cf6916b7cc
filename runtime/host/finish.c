/* The end of the process: flushes stdout. */
#include "host/host.h"
#include "host/modes.h"
#include "host/signals.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int flush(const struct host *h, int status)
{
    errno = 0;
    bool failed = fflush(stdout) != 0;
    int reason = errno;
    if (!failed && !ferror(stdout))
        return status;
    /* An earlier flush failed (print flushes each line): ask again without writing anything. */
    if (reason == 0 && signals_pipe_broke())
        reason = EPIPE;
    else if (reason == 0 && write(STDOUT_FILENO, "", 0) < 0)
        reason = errno;
    fprintf(stderr, "%s: cannot write to stdout%s%s\n", h->progname, reason != 0 ? ": " : "",
            reason != 0 ? strerror(reason) : "");
    return status == STATUS_OK ? STATUS_FAILED : status;
}

int finish_flush(struct host *h, int status)
{
    status = flush(h, status);
    run_trace_close(h, status);
    return status;
}

/* True when no other thread runs: OpenSSL's clean-up at exit would crash a thread that still connects. */
static bool only_thread(void)
{
    struct stat st;
    return stat("/proc/self/task", &st) == 0 && st.st_nlink <= 3; /* ".", "..", one thread */
}

void finish_process(int status)
{
    modes_give_back();
    if (only_thread())
        exit(status);
    fflush(NULL);
    _exit(status);
}
