/* base/spawn: a child's environment, and the errors when it cannot be started. */
#include "base/spawn.h"
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* Returns everything that the child writes to its stdout, and its wait status. */
static size_t run(const struct spawn *s, char *out, size_t cap, int *status)
{
    struct spawned sp;
    struct error e = {0};
    size_t len = 0;
    if (!CHECK(spawn_start(s, &sp, &e))) {
        error_clear(&e);
        return 0;
    }
    struct pollfd pfd = {.fd = sp.pipe[1], .events = POLLIN};
    for (;;) {
        poll(&pfd, 1, 10000);
        ssize_t n = read(sp.pipe[1], out + len, cap - 1 - len);
        if (n <= 0)
            break;
        len += (size_t)n;
    }
    out[len] = '\0';
    close(sp.pipe[1]);
    waitpid(sp.pid, status, 0);
    return len;
}

static struct spawn spec(char **argv)
{
    return (struct spawn){.argv = argv, .io = {SPAWN_NULL, SPAWN_PIPE, SPAWN_INHERIT}};
}

static int open_descriptors(void)
{
    int n = 0;
    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void test_output(void)
{
    char *argv[] = {"sh", "-c", "echo \"$1|$2\"; exit 3", "sh", "a b", "", NULL};
    struct spawn s = spec(argv);
    char out[256];
    int status = -1;
    run(&s, out, sizeof out, &status);
    CHECK_STR(out, "a b|\n");
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 3);
}

static void test_descriptors(void)
{
    int stray = open("/etc/passwd", O_RDONLY); /* without close-on-exec */
    char *argv[] = {"sh", "-c", "for f in /proc/$$/fd/*; do echo ${f##*/}; done", NULL};
    struct spawn s = spec(argv);
    char out[256];
    int status;
    int before = open_descriptors();
    run(&s, out, sizeof out, &status);
    CHECK_STR(out, "0\n1\n2\n3\n"); /* 3 is the shell's own, on the folder it lists */
    CHECK_EQ(open_descriptors(), before);
    CHECK_EQ(fcntl(stray, F_GETFD), 0); /* ours is as it was */
    close(stray);
}

static void test_closed_stdio(void)
{
    /* With 0 closed here, our own pipes would land there and be overwritten in the child. */
    int keep = fcntl(0, F_DUPFD_CLOEXEC, 100);
    close(0);
    char *argv[] = {"sh", "-c", "echo fine", NULL};
    struct spawn s = spec(argv);
    char out[64];
    int status;
    run(&s, out, sizeof out, &status);
    CHECK_STR(out, "fine\n");
    CHECK(fcntl(0, F_GETFD) < 0);
    dup2(keep, 0);
    close(keep);
}

static void test_signals(void)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN}, old;
    sigset_t block, before;
    sigaction(SIGPIPE, &ignore, &old);
    sigemptyset(&block);
    sigaddset(&block, SIGTERM);
    sigprocmask(SIG_BLOCK, &block, &before);
    char *argv[] = {"sh", "-c", "kill -TERM $$; sleep 5", NULL};
    struct spawn s = spec(argv);
    char out[64];
    int status = 0;
    run(&s, out, sizeof out, &status);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    argv[2] = "kill -PIPE $$; sleep 5";
    run(&s, out, sizeof out, &status);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE);
    sigset_t now;
    sigprocmask(SIG_SETMASK, &before, &now);
    CHECK_EQ(sigismember(&now, SIGTERM), 1); /* our own mask was restored */
    sigaction(SIGPIPE, &old, NULL);
}

static void refused(struct spawn *s, const char *text)
{
    struct spawned sp;
    struct error e = {0};
    int before = open_descriptors();
    CHECK(!spawn_start(s, &sp, &e));
    CHECK_EQ(e.kind, ERROR_IO);
    CHECK_STR(e.message, text);
    CHECK_EQ(open_descriptors(), before);
    CHECK(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
    error_clear(&e);
}

static void test_refused(void)
{
    char *none[] = {"no-such-program-here", NULL};
    struct spawn s = spec(none);
    refused(&s, "cannot run 'no-such-program-here': No such file or directory");
    char *yes[] = {"true", NULL};
    s = spec(yes);
    s.cwd = "/no/such";
    refused(&s, "cannot run 'true' in the folder '/no/such': No such file or directory");
    s = spec(yes);
    s.io[1] = SPAWN_FILE;
    s.path[1] = "/no/such/log";
    refused(&s, "cannot open '/no/such/log' for 'true': No such file or directory");
}

/* Runs `echo line` into the file, and reads it. */
static void echo_into(const char *path, enum spawn_io way, char *out, size_t size)
{
    char *argv[] = {"echo", "line", NULL};
    struct spawn s = spec(argv);
    struct spawned sp;
    struct error e = {0};
    s.io[1] = way;
    s.path[1] = path;
    out[0] = '\0';
    if (!CHECK(spawn_start(&s, &sp, &e)))
        return;
    CHECK(waitpid(sp.pid, NULL, 0) == sp.pid);
    FILE *f = fopen(path, "r");
    if (!CHECK(f != NULL))
        return;
    out[fread(out, 1, size - 1, f)] = '\0';
    fclose(f);
}

static void test_files(void)
{
    char path[] = "/tmp/dbrun-spawn-XXXXXX";
    char out[64];
    int fd = mkstemp(path);
    if (!CHECK(fd >= 0))
        return;
    close(fd);
    echo_into(path, SPAWN_FILE, out, sizeof out);
    CHECK_STR(out, "line\n");
    echo_into(path, SPAWN_APPEND, out, sizeof out);
    CHECK_STR(out, "line\nline\n");
    echo_into(path, SPAWN_FILE, out, sizeof out);
    CHECK_STR(out, "line\n");
    unlink(path);
}

static void test_session(void)
{
    char *argv[] = {"sh", "-c", "ps -o sid= -p $$ | tr -d ' '; echo $$", NULL};
    struct spawn s = spec(argv);
    s.new_session = true;
    char out[128];
    int status;
    run(&s, out, sizeof out, &status);
    char *second = strchr(out, '\n');
    if (!CHECK(second != NULL))
        return;
    *second++ = '\0';
    second[strcspn(second, "\n")] = '\0';
    CHECK_STR(out, second);
}

static void test_pdeathsig(void)
{
    int ends[2];
    if (!CHECK(pipe2(ends, O_CLOEXEC) == 0))
        return;
    pid_t parent = fork();
    if (parent == 0) {
        char *argv[] = {"sleep", "60", NULL};
        struct spawn s = spec(argv);
        struct spawned sp;
        struct error e = {0};
        s.io[1] = SPAWN_NULL;
        s.pdeathsig = SIGKILL;
        if (spawn_start(&s, &sp, &e) && write(ends[1], &sp.pid, sizeof sp.pid) < 0)
            _exit(1);
        pause();
        _exit(0);
    }
    pid_t child = 0;
    CHECK_EQ(read(ends[0], &child, sizeof child), sizeof child);
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); /* so that we can wait for the orphan */
    kill(parent, SIGKILL);
    waitpid(parent, NULL, 0);
    int status = 0;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    close(ends[0]);
    close(ends[1]);
}

static void test_user(void)
{
    if (geteuid() != 0)
        return;
    gid_t groups[] = {12346};
    char *argv[] = {"sh", "-c", "id -u; id -G; grep -c . /proc/self/status >/dev/null", NULL};
    struct spawn s = spec(argv);
    s.set_ids = true;
    s.uid = 12345;
    s.gid = 12346;
    s.groups = groups;
    s.ngroups = 1;
    s.cwd = "/";
    char out[128];
    int status;
    run(&s, out, sizeof out, &status);
    CHECK_STR(out, "12345\n12346\n");
}

int main(void)
{
    TEST("arguments arrive as they are, output and status come back", test_output);
    TEST("a child has descriptors 0, 1 and 2 and no other", test_descriptors);
    TEST("a parent without standard input can start children", test_closed_stdio);
    TEST("no signal is blocked or ignored in a child", test_signals);
    TEST("a program that cannot be started is an error that names it, and leaks nothing", test_refused);
    TEST("a file is overwritten or appended to", test_files);
    TEST("a detached child leads a session", test_session);
    TEST("a child dies with its parent on request", test_pdeathsig);
    TEST("a child of another user has that user's groups only", test_user);
    return check_end("spawn");
}
