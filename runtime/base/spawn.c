#include "base/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

extern char **environ;

/* The steps that can fail between fork and exec; the child reports them to its parent through a pipe. */
enum step { STEP_STDIO, STEP_SESSION, STEP_GROUPS, STEP_GID, STEP_UID, STEP_PDEATHSIG, STEP_CWD, STEP_EXEC };

struct report {
    enum step step;
    int err;
};

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* ---- in the child: only async-signal-safe calls from here ... ---- */

/* Signal handlers of this process must not run in the child: the loop's handler would write to the pipe that
 * both processes share. */
static void reset_signals(void)
{
    for (int sig = 1; sig < NSIG; sig++) {
        struct sigaction sa;
        if (sigaction(sig, NULL, &sa) < 0)
            continue;
        if (sig != SIGPIPE && (sa.sa_handler == SIG_DFL || sa.sa_handler == SIG_IGN))
            continue;
        sa = (struct sigaction){.sa_handler = SIG_DFL};
        sigaction(sig, &sa, NULL);
    }
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void close_on_exec_from(unsigned first)
{
#ifdef SYS_close_range
    if (syscall(SYS_close_range, first, ~0U, CLOSE_RANGE_CLOEXEC) == 0)
        return;
#endif
    struct rlimit lim = {0};
    getrlimit(RLIMIT_NOFILE, &lim);
    unsigned end = lim.rlim_cur > 65536 ? 65536 : (unsigned)lim.rlim_cur;
    for (unsigned fd = first; fd < end; fd++)
        fcntl((int)fd, F_SETFD, FD_CLOEXEC);
}

/* All steps except stdio and exec; spawn_exec also runs it. */
static bool become(const struct spawn *s, pid_t parent, enum step *step)
{
    *step = STEP_SESSION;
    if (s->new_session && setsid() < 0)
        return false;
    if (s->set_ids) {
        *step = STEP_GROUPS;
        if (geteuid() == 0 && setgroups(s->ngroups, s->groups) < 0)
            return false;
        *step = STEP_GID;
        if (setresgid(s->gid, s->gid, s->gid) < 0)
            return false;
        *step = STEP_UID;
        if (setresuid(s->uid, s->uid, s->uid) < 0)
            return false;
    }
    /* After the change of user, because that clears it. */
    *step = STEP_PDEATHSIG;
    if (s->pdeathsig) {
        if (prctl(PR_SET_PDEATHSIG, (unsigned long)s->pdeathsig, 0, 0, 0) < 0)
            return false;
        if (parent && getppid() != parent) /* the parent died before the prctl */
            raise(SIGKILL);
    }
    *step = STEP_CWD;
    return !s->cwd || chdir(s->cwd) == 0;
}

static bool arrange_stdio(const struct spawn *s, const int fd[3])
{
    for (int i = 0; i < 3; i++) {
        if (fd[i] >= 0 && dup2(fd[i], i) < 0)
            return false;
        if (s->io[i] == SPAWN_STDOUT && dup2(1, i) < 0)
            return false;
    }
    return true;
}

static _Noreturn void child_main(const struct spawn *s, const int fd[3], int report_fd, pid_t parent)
{
    struct report r = {STEP_STDIO, 0};
    reset_signals();
    if (arrange_stdio(s, fd) && become(s, parent, &r.step)) {
        r.step = STEP_EXEC;
        close_on_exec_from(3);
        execvpe(s->argv[0], s->argv, s->envp ? s->envp : environ);
    }
    r.err = errno;
    while (write(report_fd, &r, sizeof(r)) < 0 && errno == EINTR)
        ;
    _exit(127);
}

/* ---- ... to here ---- */

/* True when a folder of PATH has the program. When a folder of PATH cannot be searched, execvp reports EACCES
 * even for a program that does not exist. */
static bool in_path(const char *name)
{
    const char *path = getenv("PATH");
    for (const char *p = path ? path : ""; *p; p += *p == ':') {
        size_t len = strcspn(p, ":");
        char file[4096];
        int n = snprintf(file, sizeof(file), "%.*s/%s", (int)len, p, name);
        if (n > 0 && (size_t)n < sizeof(file) && access(file, F_OK) == 0)
            return true;
        p += len;
    }
    return false;
}

static void explain(const struct spawn *s, struct report *r, struct error *e)
{
    static const char *const steps[] = {
        [STEP_STDIO] = "set up its standard streams",
        [STEP_SESSION] = "start a session",
        [STEP_GROUPS] = "set its groups",
        [STEP_GID] = "set its group",
        [STEP_UID] = "change to its user",
        [STEP_PDEATHSIG] = "arrange that it dies with this process",
    };
    const char *name = s->argv[0];
    if (r->step == STEP_EXEC && r->err == EACCES && !strchr(name, '/') && !in_path(name))
        r->err = ENOENT;
    if (r->step == STEP_EXEC) {
        error_set(e, ERROR_IO, "cannot run '%s': %s", name, strerror(r->err));
        if (r->err == ENOENT)
            error_set_field(e, ERROR_HINT,
                            strchr(name, '/')
                                ? "is the path right, and is the interpreter in its first line there?"
                                : "is it installed, and is its folder in PATH?");
        else if (r->err == E2BIG)
            error_set_field(e, ERROR_HINT,
                            "give large texts through its standard input or a file, not as arguments");
        else if (r->err == EACCES)
            error_set_field(e, ERROR_HINT, "the file, or a folder above it, does not allow it for this user");
    } else if (r->step == STEP_CWD) {
        error_set(e, ERROR_IO, "cannot run '%s' in the folder '%s': %s", name, s->cwd, strerror(r->err));
    } else {
        error_set(e, ERROR_IO, "cannot run '%s': cannot %s: %s", name, steps[r->step], strerror(r->err));
        if (r->err == EPERM && s->set_ids)
            error_set_field(e, ERROR_HINT, "only root may run a program as another user");
    }
}

/* Descriptors 0 to 2 may be closed in this process: moves ours above them, so that dup2 in the child never
 * overwrites a descriptor that is still needed. */
static int above_stdio(int fd)
{
    if (fd < 0 || fd > 2)
        return fd;
    int up = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    int err = errno;
    close(fd);
    errno = err;
    return up;
}

static bool make_pipe(int ends[2])
{
    int fd[2];
    if (pipe2(fd, O_CLOEXEC) < 0)
        return false;
    ends[0] = above_stdio(fd[0]);
    ends[1] = above_stdio(fd[1]);
    return ends[0] >= 0 && ends[1] >= 0;
}

/* True when the path names a descriptor of this process, whose file must not be truncated. */
static bool is_descriptor(const char *path)
{
    static const char *const names[] = {"/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/self/fd/"};
    for (size_t i = 0; path && i < sizeof names / sizeof *names; i++)
        if (strncmp(path, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

static bool open_stdio(const struct spawn *s, int i, int *child, int *ours)
{
    int ends[2] = {-1, -1};
    int flags = (i == 0 ? O_RDONLY : O_WRONLY | O_CREAT) | O_CLOEXEC | O_NOCTTY;
    /* O_APPEND in both cases, so that two writers of the same file do not overwrite each other. */
    if (i > 0)
        flags |= s->io[i] == SPAWN_APPEND || is_descriptor(s->path[i]) ? O_APPEND : O_APPEND | O_TRUNC;
    /* This process opens the file with its own rights, and the other user may own the folder: do not follow a
     * link. */
    if (s->set_ids)
        flags |= O_NOFOLLOW;
    switch (s->io[i]) {
    case SPAWN_INHERIT:
    case SPAWN_STDOUT:
        return true;
    case SPAWN_NULL:
        *child = above_stdio(open("/dev/null", O_RDWR | O_CLOEXEC));
        return *child >= 0;
    case SPAWN_FILE:
    case SPAWN_APPEND:
        *child = above_stdio(open(s->path[i], flags, 0666));
        return *child >= 0;
    case SPAWN_PIPE:
        break;
    }
    bool ok = make_pipe(ends);
    *child = ends[i == 0 ? 0 : 1];
    *ours = ends[i == 0 ? 1 : 0];
    return ok && fcntl(*ours, F_SETFL, O_NONBLOCK) == 0;
}

static pid_t fork_quietly(const struct spawn *s, const int fd[3], int report_fd)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0)
        child_main(s, fd, report_fd, parent);
    int err = errno;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    errno = err;
    return pid;
}

/* True when the exec succeeded: it closes the pipe, and nothing was written to it. */
static bool exec_succeeded(int fd, struct report *r)
{
    ssize_t n;
    do
        n = read(fd, r, sizeof(*r));
    while (n < 0 && errno == EINTR);
    return n != (ssize_t)sizeof(*r);
}

bool spawn_start(const struct spawn *s, struct spawned *out, struct error *e)
{
    int child[3] = {-1, -1, -1};
    int report[2] = {-1, -1};
    struct report r;
    bool ok = false;
    *out = (struct spawned){.pid = -1, .pipe = {-1, -1, -1}};

    for (int i = 0; i < 3; i++) {
        if (open_stdio(s, i, &child[i], &out->pipe[i]))
            continue;
        int err = errno;
        if (s->io[i] == SPAWN_FILE || s->io[i] == SPAWN_APPEND)
            error_set(e, ERROR_IO, "cannot open '%s' for '%s': %s", s->path[i], s->argv[0], strerror(err));
        else if (s->io[i] == SPAWN_NULL)
            error_set(e, ERROR_IO, "cannot open /dev/null for '%s': %s", s->argv[0], strerror(err));
        else
            error_set(e, ERROR_IO, "cannot make a pipe to '%s': %s", s->argv[0], strerror(err));
        error_set_field(e, ERROR_HINT, error_limit_hint(err));
        goto done;
    }
    if (!make_pipe(report) || (out->pid = fork_quietly(s, child, report[1])) < 0) {
        int err = errno;
        error_set(e, ERROR_IO, "cannot start '%s': %s", s->argv[0], strerror(err));
        error_set_field(e, ERROR_HINT, error_limit_hint(err));
        goto done;
    }
    close_fd(&report[1]);
    ok = exec_succeeded(report[0], &r);
    if (!ok) {
        while (waitpid(out->pid, NULL, 0) < 0 && errno == EINTR)
            ;
        explain(s, &r, e);
    }
done:
    for (int i = 0; i < 3; i++) {
        close_fd(&child[i]);
        if (!ok)
            close_fd(&out->pipe[i]);
    }
    close_fd(&report[0]);
    close_fd(&report[1]);
    return ok;
}

void spawn_exec(const struct spawn *s, struct error *e)
{
    struct report r = {STEP_SESSION, 0};
    fflush(NULL);
    if (become(s, 0, &r.step)) {
        r.step = STEP_EXEC;
        struct sigaction dfl = {.sa_handler = SIG_DFL}, old;
        sigset_t none, mask;
        sigaction(SIGPIPE, &dfl, &old);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, &mask);
        close_on_exec_from(3);
        execvpe(s->argv[0], s->argv, s->envp ? s->envp : environ);
        r.err = errno;
        sigaction(SIGPIPE, &old, NULL);
        sigprocmask(SIG_SETMASK, &mask, NULL);
    } else {
        r.err = errno;
    }
    explain(s, &r, e);
}
