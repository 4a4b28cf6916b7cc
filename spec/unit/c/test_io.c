/* The drivers: blocking waits, the loop's watchers, work on separate threads. */
#include "base/deadline.h"
#include "check.h"
#include "io/poll.h"
#include "io/watch.h"
#include "io/worker.h"
#include "io/worker_sync.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* ---- io_poll ---- */

static void test_poll_ready(void)
{
    int fd[2];
    unsigned ready = 0;
    CHECK(pipe(fd) == 0);
    CHECK_EQ(io_poll(fd[0], IO_READ, mono_now(), NULL, &ready), IO_TIMEOUT);
    CHECK_EQ(io_poll(fd[1], IO_WRITE, DEADLINE_NEVER, NULL, &ready), IO_READY);
    CHECK_EQ(ready, IO_WRITE);
    CHECK(write(fd[1], "x", 1) == 1);
    CHECK_EQ(io_poll(fd[0], IO_READ, DEADLINE_NEVER, NULL, &ready), IO_READY);
    CHECK_EQ(ready, IO_READ);
    close(fd[1]);
    close(fd[0]);
}

static void test_poll_deadline(void)
{
    int fd[2];
    unsigned ready;
    CHECK(pipe(fd) == 0);
    uint64_t begin = mono_now();
    CHECK_EQ(io_poll(fd[0], IO_READ, begin + 30 * NS_PER_MS, NULL, &ready), IO_TIMEOUT);
    CHECK(mono_now() >= begin + 30 * NS_PER_MS);
    close(fd[0]);
    close(fd[1]);
}

static void on_alarm(int sig)
{
    (void)sig;
}

/* Continuous signals, as a busy terminal or many children cause them. */
static void storm(bool on)
{
    struct itimerval often = {{0, on ? 200 : 0}, {0, on ? 200 : 0}};
    struct sigaction sa = {.sa_handler = on ? on_alarm : SIG_IGN};
    sigaction(SIGALRM, &sa, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
}

static void test_poll_signals(void)
{
    int fd[2];
    unsigned ready;
    CHECK(pipe(fd) == 0);
    storm(true);
    uint64_t begin = mono_now();
    CHECK_EQ(io_poll(fd[0], IO_READ, begin + 30 * NS_PER_MS, NULL, &ready), IO_TIMEOUT);
    CHECK(mono_now() >= begin + 30 * NS_PER_MS);
    /* A poll that a signal interrupts reports nothing. */
    int seen = 0;
    for (uint64_t until = mono_now() + 100 * NS_PER_MS; mono_now() < until;)
        seen += io_poll_readable(fd[0]);
    CHECK_EQ(seen, 0);
    storm(false);
    close(fd[1]);
    CHECK(io_poll_readable(fd[0])); /* the other end is gone */
    close(fd[0]);
}

static bool yes(void *data)
{
    ++*(int *)data;
    return true;
}

static bool no(void *data)
{
    ++*(int *)data;
    return false;
}

static void test_poll_interrupt(void)
{
    int fd[2];
    int stop[2];
    int asked = 0;
    unsigned ready;
    CHECK(pipe(fd) == 0 && pipe(stop) == 0);
    CHECK(write(stop[1], "x", 1) == 1);
    struct io_interrupt intr = {stop[0], yes, &asked};
    CHECK_EQ(io_poll(fd[0], IO_READ, DEADLINE_NEVER, &intr, &ready), IO_INTERRUPTED);
    /* Always readable, and no reason to stop: goes on waiting, and does not spin. */
    intr.check = no;
    asked = 0;
    CHECK_EQ(io_poll(fd[0], IO_READ, mono_now() + 30 * NS_PER_MS, &intr, &ready), IO_TIMEOUT);
    CHECK(asked < 10);
    for (int i = 0; i < 2; i++) {
        close(fd[i]);
        close(stop[i]);
    }
}

/* ---- io_watch ---- */

struct watch {
    struct io_watch *d;
    int calls;
    unsigned events;
    bool close_inside;
};

static void on_ready(void *data, unsigned events)
{
    struct watch *w = data;
    w->calls++;
    w->events |= events;
    if (w->close_inside) {
        io_watch_close(w->d);
        w->d = NULL;
    }
}

static void turn(uv_loop_t *loop)
{
    uv_run(loop, UV_RUN_NOWAIT);
}

static void test_uv_interest(void)
{
    uv_loop_t loop;
    int fd[2];
    struct watch w = {0};
    CHECK(uv_loop_init(&loop) == 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd) == 0);
    w.d = io_watch_open(&loop, fd[0], on_ready, &w);
    if (!CHECK(w.d != NULL))
        return;
    io_watch_want(w.d, IO_READ);
    turn(&loop);
    CHECK_EQ(w.calls, 0);
    CHECK(write(fd[1], "x", 1) == 1);
    turn(&loop);
    CHECK_EQ(w.events, IO_READ);
    io_watch_want(w.d, 0); /* back-pressure: not called again */
    w.calls = 0;
    turn(&loop);
    CHECK_EQ(w.calls, 0);
    io_watch_want(w.d, IO_READ | IO_WRITE);
    turn(&loop);
    CHECK_EQ(w.events, IO_READ | IO_WRITE);
    w.close_inside = true;
    turn(&loop);
    CHECK(w.d == NULL);
    turn(&loop);
    CHECK_EQ(uv_loop_close(&loop), 0);
    io_watch_close(NULL);
    close(fd[0]);
    close(fd[1]);
}

/* A TCP connection on which the peer first sent something and then reset it. */
static int reset_connection(void)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    struct linger hard = {1, 0};
    int server = socket(AF_INET, SOCK_STREAM, 0);
    int client = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(bind(server, (struct sockaddr *)&addr, len) == 0 && listen(server, 1) == 0);
    CHECK(getsockname(server, (struct sockaddr *)&addr, &len) == 0);
    CHECK(connect(client, (struct sockaddr *)&addr, len) == 0);
    int peer = accept(server, NULL, NULL);
    CHECK(write(peer, "some bytes", 10) == 10);
    setsockopt(peer, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(peer);
    close(server);
    return client;
}

/* The error comes together with the last bytes; a reader that reads them in pieces must be called again. */
static void test_uv_reset(void)
{
    uv_loop_t loop;
    struct watch w = {0};
    int fd = reset_connection();
    char c;
    CHECK(uv_loop_init(&loop) == 0);
    w.d = io_watch_open(&loop, fd, on_ready, &w);
    if (!CHECK(w.d != NULL))
        return;
    io_watch_want(w.d, IO_READ); /* once */
    for (int i = 0; i < 20; i++) {
        w.calls = 0;
        turn(&loop);
        if (!CHECK_EQ(w.calls, 1))
            break;
        ssize_t n = read(fd, &c, 1);
        if (n < 0) /* the error itself */
            break;
    }
    io_watch_close(w.d);
    turn(&loop);
    CHECK_EQ(uv_loop_close(&loop), 0);
    close(fd);
}

/* The descriptor is closed without the watch, and another connection gets its number. The old watch is closed
 * or stopped only then: the new one must not notice. */
static void reuse_number(bool stop_first)
{
    uv_loop_t loop;
    int old[2], fd[2];
    struct watch stale = {0}, w = {0};
    CHECK(uv_loop_init(&loop) == 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, old) == 0);
    stale.d = io_watch_open(&loop, old[0], on_ready, &stale);
    if (!CHECK(stale.d != NULL))
        return;
    io_watch_want(stale.d, IO_READ);
    turn(&loop);
    int number = old[0];
    close(old[0]);
    if (stop_first)
        io_watch_want(stale.d, 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd) == 0);
    CHECK_EQ(fd[0], number);
    w.d = io_watch_open(&loop, fd[0], on_ready, &w);
    if (!CHECK(w.d != NULL))
        return;
    io_watch_want(w.d, IO_READ);
    turn(&loop);
    io_watch_want(stale.d, IO_READ);
    io_watch_want(stale.d, 0);
    turn(&loop);
    io_watch_close(stale.d);
    turn(&loop);
    CHECK(write(fd[1], "x", 1) == 1);
    turn(&loop);
    CHECK_EQ(w.calls, 1);
    CHECK_EQ(stale.calls, 0);
    io_watch_close(w.d);
    turn(&loop);
    CHECK_EQ(uv_loop_close(&loop), 0);
    close(fd[0]);
    close(fd[1]);
    close(old[1]);
}

static void test_uv_reused_number(void)
{
    reuse_number(false);
    reuse_number(true);
}

/* ---- workers ---- */

struct task_job {
    struct job job; /* first */
    atomic_int *worked, *dropped;
    int *done;
    int ms;
};

static void job_work(struct job *j)
{
    struct task_job *t = (struct task_job *)j;
    usleep((useconds_t)t->ms * 1000);
    atomic_fetch_add(t->worked, 1);
}

static void job_done(struct job *j)
{
    struct task_job *t = (struct task_job *)j;
    ++*t->done;
    free(t);
}

static void job_drop(struct job *j)
{
    struct task_job *t = (struct task_job *)j;
    atomic_int *dropped = t->dropped;
    free(t);
    atomic_fetch_add(dropped, 1);
}

static atomic_int worked, dropped;
static int done;

static bool start_job(struct workers *w, int ms)
{
    struct task_job *t = calloc(1, sizeof *t);
    if (!t)
        abort();
    *t = (struct task_job){
        {.work = job_work, .done = job_done, .drop = job_drop}, &worked, &dropped, &done, ms};
    return workers_run(w, &t->job);
}

static void test_workers(void)
{
    uv_loop_t loop;
    CHECK(uv_loop_init(&loop) == 0);
    struct workers *w = workers_new(&loop);
    worked = dropped = done = 0;
    CHECK(!uv_loop_alive(&loop)); /* idle workers do not keep the program alive */
    for (int i = 0; i < 10; i++)
        CHECK(start_job(w, i % 3));
    CHECK(uv_loop_alive(&loop));
    uv_run(&loop, UV_RUN_DEFAULT); /* ends by itself */
    CHECK_EQ(done, 10);
    CHECK_EQ(worked, 10);
    CHECK_EQ(dropped, 0);
    workers_close(w);
    uv_run(&loop, UV_RUN_DEFAULT);
    CHECK_EQ(uv_loop_close(&loop), 0);
}

static void await_count(atomic_int *counter, int n)
{
    for (int i = 0; i < 2000 && atomic_load(counter) < n; i++)
        usleep(1000);
    CHECK_EQ(atomic_load(counter), n);
}

/* Stuck and finished jobs alike; the end of the program waits for neither. */
static void test_workers_close(void)
{
    uv_loop_t loop;
    CHECK(uv_loop_init(&loop) == 0);
    struct workers *w = workers_new(&loop);
    worked = dropped = done = 0;
    for (int i = 0; i < 4; i++)
        CHECK(start_job(w, 0) && start_job(w, 100));
    await_count(&worked, 4);
    uint64_t begin = mono_now();
    workers_close(w);
    uv_run(&loop, UV_RUN_DEFAULT);
    CHECK_EQ(uv_loop_close(&loop), 0);
    CHECK(mono_now() - begin < 80 * NS_PER_MS);
    await_count(&dropped, 8);
    CHECK_EQ(done, 0);
}

/* ---- worker_call ---- */

static void call_work(void *arg)
{
    usleep((useconds_t) * (int *)arg * 1000);
    atomic_fetch_add(&worked, 1);
}

static void call_drop(void *arg)
{
    free(arg);
    atomic_fetch_add(&dropped, 1);
}

static int *call_arg(int ms)
{
    int *arg = malloc(sizeof *arg);
    if (!arg)
        abort();
    *arg = ms;
    return arg;
}

static void test_call(void)
{
    int *arg = call_arg(5);
    worked = dropped = 0;
    CHECK_EQ(worker_call(call_work, call_drop, arg, DEADLINE_NEVER, NULL), IO_READY);
    CHECK_EQ(worked, 1);
    CHECK_EQ(dropped, 0);
    free(arg);
}

static void test_call_too_long(void)
{
    worked = dropped = 0;
    for (int i = 0; i < 20; i++)
        CHECK_EQ(worker_call(call_work, call_drop, call_arg(400), mono_now() + 2 * NS_PER_MS, NULL),
                 IO_TIMEOUT);
    await_count(&dropped, 20); /* each result is thrown away when it arrives */
    CHECK_EQ(worked, 20);
}

/* With room for one descriptor, the call can open its own, but poll(2) refuses to wait for two. */
static void test_call_without_waiting(void)
{
    struct rlimit before;
    worked = dropped = 0;
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    int input = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 10);
    CHECK(input >= 0);
    close(STDIN_FILENO);
    struct rlimit one = {.rlim_cur = 1, .rlim_max = before.rlim_max};
    int *arg = call_arg(50);
    CHECK(setrlimit(RLIMIT_NOFILE, &one) == 0);
    enum io_status status = worker_call(call_work, call_drop, arg, DEADLINE_NEVER, NULL);
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
    CHECK_EQ(status, IO_TIMEOUT); /* it was started: the worker owns the argument now */
    await_count(&dropped, 1);
    CHECK_EQ(worked, 1);
    CHECK(dup2(input, STDIN_FILENO) == STDIN_FILENO);
    close(input);
}

/* Whether poll refuses more descriptors than the limit, as the test above requires. valgrind keeps the limit
 * to itself, and the kernel does not know it. */
static bool poll_obeys_limit(void)
{
    struct rlimit before;
    struct pollfd two[2] = {{.fd = -1}, {.fd = -1}};
    if (getrlimit(RLIMIT_NOFILE, &before) != 0)
        return false;
    struct rlimit one = {.rlim_cur = 1, .rlim_max = before.rlim_max};
    bool refused = setrlimit(RLIMIT_NOFILE, &one) == 0 && poll(two, 2, 0) < 0;
    return setrlimit(RLIMIT_NOFILE, &before) == 0 && refused;
}

int main(void)
{
    TEST("a blocking wait returns what is ready", test_poll_ready);
    TEST("a blocking wait never ends too early", test_poll_deadline);
    TEST("signals neither shorten a wait nor make a socket look readable", test_poll_signals);
    TEST("an interrupt ends a wait when there is a reason to stop", test_poll_interrupt);
    TEST("a watcher reports what it was set to watch, and can be closed in its callback", test_uv_interest);
    TEST("after a reset the last bytes and the error are still reported", test_uv_reset);
    TEST("a watcher whose descriptor was closed leaves the next one with its number alone",
         test_uv_reused_number);
    TEST("work runs on threads, and its result returns to the loop", test_workers);
    TEST("closing waits for no work; its results are dropped", test_workers_close);
    TEST("a blocking call returns when the work is done", test_call);
    TEST("a blocking call that takes too long is dropped when it ends", test_call_too_long);
    if (poll_obeys_limit())
        TEST("a blocking call that cannot be waited for is dropped when it ends", test_call_without_waiting);
    else
        printf("io: not run: a blocking call that cannot be waited for: the limit of descriptors has no "
               "effect\n");
    return check_end("io");
}
