/* The end of the process: os.exit, what is left in stdout's buffer, the exit status. */
#include "host/host.h"
#include "host/signals.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int finish_flush(const struct host *h, int status)
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

/* OpenSSL's clean-up at exit would crash a thread that is still in a connect. */
static bool only_thread(void)
{
    struct stat st;
    return stat("/proc/self/task", &st) == 0 && st.st_nlink <= 3; /* ".", "..", one thread */
}

void finish_process(int status)
{
    if (only_thread())
        exit(status);
    fflush(NULL);
    _exit(status);
}

/*
 * os.exit([code [, close]]). Without `close` the process ends here, as in lua. With it, lua closes the
 * state; but here the script runs in a task, and a state cannot be closed from inside one of its own
 * coroutines while others wait. So the whole program is cancelled instead: the call raises, variables
 * are closed, the other tasks end, and then the host closes the state and exits with `code`. Called a
 * second time (something caught the first) it ends the process at once.
 */
static int os_exit(lua_State *L)
{
    struct host *h = lua_touserdata(L, lua_upvalueindex(1));
    int status;
    if (lua_isboolean(L, 1))
        status = lua_toboolean(L, 1) ? EXIT_SUCCESS : EXIT_FAILURE;
    else
        status = (int)luaL_optinteger(L, 1, EXIT_SUCCESS);
    bool first = !h->exit_asked;
    h->exit_asked = true;
    h->exit_status = status;
    if (lua_toboolean(L, 2) && h->running && first) {
        sched_interrupt(h->rt->sched, "os.exit was called");
        return sched_raise_interrupted(L, h->rt->sched);
    }
    finish_process(finish_flush(h, status));
}

void finish_install(lua_State *L, struct host *h)
{
    lua_getglobal(L, "os");
    lua_pushlightuserdata(L, h);
    lua_pushcclosure(L, os_exit, 1);
    lua_setfield(L, -2, "exit");
    lua_pop(L, 1);
}
