/*
 * Runs a server for as long as the keeper's standard input is open.
 *
 *   keeper SIGNAL LOGFILE PROGRAM ARGUMENT...
 *
 * When the harness closes the pipe, or dies for any reason, the server gets SIGNAL (a number), and
 * SIGKILL when it has not ended after five seconds. So no server outlives a benchmark.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t spawn(const char *log, char **argv)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || null < 0)
        _exit(126);
    dup2(null, STDIN_FILENO);
    dup2(fd, STDOUT_FILENO);
    dup2(fd, STDERR_FILENO);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    setsid(); /* Ctrl-C in the terminal is for the harness, which then closes the pipe */
    execvp(argv[0], argv);
    _exit(127);
}

/* True once the child has ended. */
static int gone(pid_t pid)
{
    int status;
    return waitpid(pid, &status, WNOHANG) == pid;
}

/* Returns when the pipe's other end is closed; 1 when the server ended by itself. */
static int watch(pid_t pid)
{
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    for (;;) {
        int n = poll(&p, 1, 250);
        if (n < 0 && errno != EINTR)
            return 0;
        char byte[64];
        if (n > 0 && read(STDIN_FILENO, byte, sizeof byte) <= 0)
            return 0;
        if (gone(pid))
            return 1;
    }
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: keeper SIGNAL LOGFILE PROGRAM ARGUMENT...\n");
        return 2;
    }
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    pid_t pid = spawn(argv[2], argv + 3);
    if (pid < 0) {
        perror("keeper: fork");
        return 1;
    }
    if (watch(pid))
        return 1;
    kill(pid, atoi(argv[1]));
    for (int i = 0; i < 500; i++) {
        if (gone(pid))
            return 0;
        usleep(10000);
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return 0;
}
