/*
 * Runs a program and measures its cost: wall time, CPU time, the largest resident set.
 *
 *   measure [-n RUNS] [-t SECONDS] -o FILE -- PROGRAM ARGUMENT...
 *
 * One line per run goes to FILE: {"wall":s,"cpu":s,"rss_kib":n,"status":n}. A run that takes longer
 * than `-t` is killed and counts as status 124. measure stops at the first run that fails, and exits
 * with the status of its last run.
 *
 * It is a small C program because a child inherits its parent's high-water mark of memory until it calls
 * exec, and because a shell is too slow to time a process of 4 ms.
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { STATUS_TIMEOUT = 124, STATUS_NO_PROGRAM = 127 };

static double seconds(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static pid_t spawn(char **argv, const sigset_t *mask)
{
    pid_t pid = vfork();
    if (pid != 0)
        return pid;
    sigprocmask(SIG_SETMASK, mask, NULL);
    execvp(argv[0], argv);
    _exit(STATUS_NO_PROGRAM);
}

/* Waits for the child; kills it at the deadline, or when this program gets a signal to end. */
static int wait_child(pid_t pid, double deadline, const sigset_t *set, struct rusage *ru)
{
    int status = 0;
    bool late = false;
    for (;;) {
        pid_t got = wait4(pid, &status, late ? 0 : WNOHANG, ru);
        if (got == pid)
            break;
        if (got < 0 && errno != EINTR)
            return STATUS_NO_PROGRAM;
        if (late)
            continue;
        double left = deadline - seconds();
        struct timespec ts = {(time_t)left, (long)((left - (double)(time_t)left) * 1e9)};
        int sig = left <= 0 ? -1 : sigtimedwait(set, NULL, &ts);
        if (sig == SIGCHLD || (sig < 0 && left > 0 && errno == EINTR))
            continue;
        kill(pid, SIGKILL);
        late = true;
    }
    if (late)
        return STATUS_TIMEOUT;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static double timeval_seconds(struct timeval tv)
{
    return (double)tv.tv_sec + (double)tv.tv_usec / 1e6;
}

static int run(char **argv, double limit, FILE *out)
{
    sigset_t set, before;
    signal(SIGCHLD, SIG_DFL);
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, &before);

    double start = seconds();
    pid_t pid = spawn(argv, &before);
    if (pid < 0) {
        perror("measure: fork");
        return STATUS_NO_PROGRAM;
    }
    struct rusage ru = {0};
    int status = wait_child(pid, start + limit, &set, &ru);
    double wall = seconds() - start;
    sigprocmask(SIG_SETMASK, &before, NULL);

    fprintf(out, "{\"wall\":%.6f,\"cpu\":%.6f,\"rss_kib\":%ld,\"status\":%d}\n", wall,
            timeval_seconds(ru.ru_utime) + timeval_seconds(ru.ru_stime), ru.ru_maxrss, status);
    if (status == STATUS_NO_PROGRAM)
        fprintf(stderr, "measure: cannot run %s\n", argv[0]);
    return status;
}

int main(int argc, char **argv)
{
    int runs = 1;
    double limit = 600;
    const char *path = NULL;
    int opt;
    while ((opt = getopt(argc, argv, "+n:t:o:")) != -1) {
        if (opt == 'n')
            runs = atoi(optarg);
        else if (opt == 't')
            limit = atof(optarg);
        else if (opt == 'o')
            path = optarg;
    }
    if (!path || runs < 1 || limit <= 0 || optind >= argc) {
        fprintf(stderr, "usage: measure [-n RUNS] [-t SECONDS] -o FILE -- PROGRAM ARGUMENT...\n");
        return 2;
    }
    FILE *out = fopen(path, "we");
    if (!out) {
        perror(path);
        return 2;
    }
    int status = 0;
    for (int i = 0; i < runs && status == 0; i++)
        status = run(argv + optind, limit, out);
    if (fclose(out) != 0) {
        perror(path);
        return 2;
    }
    return status;
}
