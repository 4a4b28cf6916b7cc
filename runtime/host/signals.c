#include "host/signals.h"

#include "base/deadline.h"
#include "bind/base/error.h"
#include "host/modes.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* --timeout, and the ticks after a stop; not SIGALRM, which belongs to the script. */
#define TIMER_SIGNAL (SIGRTMIN + 5)
/* signals_hook_after. */
#define HOOK_SIGNAL (SIGRTMIN + 6)
#define HOOK_AGAIN  (50 * NS_PER_MS)

/* The time that a program has to end after the first signal. */
#define GRACE (2 * NS_PER_S)
/* How often meanwhile the running task is checked for a cancellation. */
#define TICK (10 * NS_PER_MS)

/* When a terminal closes, both its shell and the system send SIGHUP: within this time they count as one. */
#define ONE_HANGUP (50 * NS_PER_MS)

enum { ROOT_TASK = 1 }; /* its task number */
enum { INSISTENT = 3 }; /* interruptions of one input, after which each instruction raises */
enum stop { STOP_NONE, STOP_SIGINT, STOP_SIGTERM, STOP_SIGHUP, STOP_TIMEOUT };

static char too_long[80];
static const char *const reasons[] = {
    [STOP_SIGINT] = "interrupted by SIGINT",
    [STOP_SIGTERM] = "interrupted by SIGTERM",
    [STOP_SIGHUP] = "interrupted by SIGHUP",
    [STOP_TIMEOUT] = too_long,
};
static const int statuses[] = {
    [STOP_SIGINT] = 130, [STOP_SIGTERM] = 143, [STOP_SIGHUP] = 129, [STOP_TIMEOUT] = 1};

static struct {
    struct runtime *rt;
    pthread_t thread; /* the thread that runs Lua */
    uv_async_t async;
    timer_t timer;
    timer_t hook_timer;
    void (*hook)(void *data); /* set by signals_hook_after */
    void *hook_data;
    void (*interrupted)(void *data);
    void *interrupted_data;
    struct trace *trace; /* written before a handler ends the process; NULL: none */
    uint64_t stopped_at; /* used only in handlers, which do not interrupt each other */
    int eventfd;
    volatile sig_atomic_t watching;
    volatile sig_atomic_t stop;        /* enum stop: the first cause */
    volatile sig_atomic_t interactive; /* SIGINT stops only what was typed */
    volatile sig_atomic_t break_line;  /* such a SIGINT came */
    volatile sig_atomic_t insists;     /* a second one came before the first was handled */
    volatile sig_atomic_t pipe_broke;
    volatile sig_atomic_t hook_due;
    bool typed;   /* input of the prompt runs (signals_typed) */
    int insisted; /* how often it was interrupted (signals_insist) */
    bool spares;  /* signals_spare was called */
} state = {.eventfd = -1};

/* ---- in the handlers: async-signal-safe calls only ---- */

static void say(const char *text)
{
    ssize_t n = write(STDERR_FILENO, text, strlen(text));
    (void)n; /* the write cannot be reported */
}

static void end_at_once(int status)
{
    if (state.trace)
        trace_rescue(state.trace);
    modes_give_back();
    _exit(status);
}

/* Called two seconds after the first signal: ends the process. */
static void die(void)
{
    say("dbrun: ");
    say(reasons[state.stop]);
    say("; it did not end within 2 s\n");
    end_at_once(statuses[state.stop]);
}

static void stop_hook(lua_State *L, lua_Debug *ar);

/* Stops Lua code that never waits before its next instruction, as lua does. */
static void hook_running(void)
{
    lua_State *L = sched_running(state.rt->sched);
    lua_sethook(L, stop_hook, LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
}

/* Sets the timer to signal after `seconds`, and then every `again` ns unless 0. */
static void arm(timer_t timer, double seconds, uint64_t again)
{
    double whole;
    double part = modf(seconds, &whole);
    struct itimerspec at = {.it_value = {.tv_sec = (time_t)whole, .tv_nsec = (long)(part * 1e9)},
                            .it_interval = {.tv_nsec = (long)again}};
    if (at.it_value.tv_sec == 0 && at.it_value.tv_nsec == 0)
        at.it_value.tv_nsec = 1;
    timer_settime(timer, 0, &at, NULL);
}

static void notice(void)
{
    uint64_t one = 1;
    ssize_t n = write(state.eventfd, &one, sizeof one);
    (void)n; /* EAGAIN: the counter is full, so it is readable */
    uv_async_send(&state.async);
    hook_running();
}

static void on_signal(int sig);

static void handle(int sig, int flags)
{
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = flags};
    sigfillset(&sa.sa_mask);
    sigaction(sig, &sa, NULL);
}

static bool is_same_hangup(enum stop stop)
{
    return stop == STOP_SIGHUP && state.stop == STOP_SIGHUP && mono_now() - state.stopped_at < ONE_HANGUP;
}

static void request_stop(enum stop stop)
{
    if (is_same_hangup(stop))
        return;
    if (state.stop != STOP_NONE) /* the second signal */
        end_at_once(statuses[stop]);
    state.stopped_at = mono_now();
    state.stop = (sig_atomic_t)stop;
    handle(TIMER_SIGNAL, SA_RESTART); /* from now on it interrupts no read or write */
    arm(state.timer, (double)TICK / NS_PER_S, TICK);
    notice();
}

/* While the program is ending, a ready task may begin a loop without a wait only now: the hook raises its
 * cancellation. */
static void tick(void)
{
    if (mono_now() - state.stopped_at >= GRACE)
        die();
    if (state.watching)
        hook_running();
}

static enum stop stop_of(int sig)
{
    switch (sig) {
    case SIGINT:
        return STOP_SIGINT;
    case SIGTERM:
        return STOP_SIGTERM;
    case SIGHUP:
        return STOP_SIGHUP;
    default:
        return STOP_TIMEOUT;
    }
}

static void on_signal(int sig)
{
    int saved = errno;
    if (!state.watching) {
        if (sig != TIMER_SIGNAL && sig != HOOK_SIGNAL && sig != SIGPIPE)
            end_at_once(128 + sig);
        if (sig == TIMER_SIGNAL && state.stop != STOP_NONE)
            tick();
    } else if (!pthread_equal(pthread_self(), state.thread)) {
        pthread_kill(state.thread, sig); /* a hook must be set on the thread that runs Lua */
    } else if (sig == HOOK_SIGNAL) {
        state.hook_due = 1;
        hook_running();
    } else if (sig == SIGPIPE) {
        hook_running(); /* the hook checks whether it was stdout */
    } else if (sig == SIGINT && state.interactive) {
        state.insists = state.break_line;
        state.break_line = 1;
        notice();
    } else if (sig == TIMER_SIGNAL && state.stop != STOP_NONE) {
        tick();
    } else {
        request_stop(stop_of(sig));
    }
    errno = saved;
}

/* ---- outside the handlers ---- */

/* Returns true once for each SIGINT that came in the REPL. */
static bool take_break(void)
{
    if (!state.break_line)
        return false;
    state.break_line = state.insists = 0;
    uint64_t count;
    ssize_t n = read(state.eventfd, &count, sizeof count);
    (void)n;
    return true;
}

/* SIGINT at the prompt stops what was typed, not a background task that happens to run: in that case the loop
 * informs the prompt in its turn. A second Ctrl-C before that means that the user is stuck in such a task,
 * and stops it. */
static bool is_for_running(struct sched *s)
{
    return task_id(task_current(s)) <= ROOT_TASK || state.insists;
}

static void hook_each_instruction(lua_State *L)
{
    /* No hook for calls: it would also raise at the call of the error's handler. */
    if (is_for_running(state.rt->sched))
        lua_sethook(L, stop_hook, LUA_MASKLINE | LUA_MASKCOUNT, 1);
}

void signals_insist(lua_State *L)
{
    if (!state.typed || ++state.insisted < INSISTENT)
        return;
    lua_sethook(L, stop_hook, LUA_MASKLINE | LUA_MASKCOUNT, 1);
    sched_on_resume(state.rt->sched, hook_each_instruction); /* also in the coroutines in which it waits */
}

void signals_typed(bool runs)
{
    if (state.insisted >= INSISTENT)
        sched_on_resume(state.rt->sched, NULL);
    state.typed = runs;
    state.insisted = 0;
}

static void stop_hook(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    lua_sethook(L, NULL, 0, 0);
    struct runtime *rt = state.rt;
    if (state.hook_due) {
        state.hook_due = 0;
        state.hook(state.hook_data);
    }
    if (state.stop != STOP_NONE && !state.spares) {
        if (sched_interrupted(rt->sched)) { /* all tasks are cancelled */
            task_deliver(L, rt->sched);
            return;
        }
        sched_interrupt(rt->sched, reasons[state.stop]);
        task_interrupt(L, rt->sched);
    }
    if (is_for_running(rt->sched) && (take_break() || state.insisted >= INSISTENT)) {
        signals_insist(L);
        luaL_error(L, "interrupted!");
    }
    if (ferror(stdout) && !state.pipe_broke) {
        state.pipe_broke = 1;
        bind_fail(L, rt, ERROR_IO, "cannot write to stdout: %s", strerror(EPIPE));
    }
}

static void on_loop(uv_async_t *async)
{
    (void)async;
    if (state.stop != STOP_NONE && !state.spares)
        sched_interrupt(state.rt->sched, reasons[state.stop]);
    if (take_break() && state.interrupted)
        state.interrupted(state.interrupted_data);
}

static bool pending(void *data)
{
    (void)data;
    return state.stop != STOP_NONE || state.break_line;
}

static bool is_ignored(int sig)
{
    struct sigaction sa;
    return sigaction(sig, NULL, &sa) == 0 && !(sa.sa_flags & SA_SIGINFO) && sa.sa_handler == SIG_IGN;
}

void signals_ignore_pipe(void)
{
    /* A handler instead of SIG_IGN: exec resets it to the default in child processes. */
    handle(SIGPIPE, SA_RESTART);
}

static bool make_timer(int sig, timer_t *timer)
{
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = sig};
    return timer_create(CLOCK_MONOTONIC, &event, timer) == 0;
}

bool signals_start(struct runtime *rt, double timeout)
{
    state.rt = rt;
    state.thread = pthread_self();
    snprintf(too_long, sizeof too_long, "the script took longer than %g s (--timeout)", timeout);
    state.eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (state.eventfd < 0)
        return false;
    if (!make_timer(TIMER_SIGNAL, &state.timer) || !make_timer(HOOK_SIGNAL, &state.hook_timer))
        return false;
    int rc = uv_async_init(sched_loop(rt->sched), &state.async, on_loop);
    if (rc != 0) {
        errno = -rc;
        return false;
    }
    uv_unref((uv_handle_t *)&state.async);
    rt->interrupt.fd = state.eventfd;
    rt->interrupt.check = pending;
    state.watching = 1;
    /* No SA_RESTART: a read from a terminal or pipe is interrupted, and the hook can run. */
    handle(SIGINT, 0);
    handle(SIGTERM, 0);
    if (!is_ignored(SIGHUP)) /* nohup */
        handle(SIGHUP, 0);
    handle(TIMER_SIGNAL, 0);
    if (timeout > 0)
        arm(state.timer, timeout, 0);
    return true;
}

void signals_hook_after(double seconds, void (*fn)(void *data), void *data)
{
    if (!state.watching)
        return;
    state.hook = fn;
    state.hook_data = data;
    handle(HOOK_SIGNAL, SA_RESTART);
    arm(state.hook_timer, seconds, HOOK_AGAIN);
}

void signals_spare(void)
{
    state.spares = true;
    state.rt->interrupt.fd = -1;
}

void signals_stop(void)
{
    if (!state.watching)
        return;
    state.watching = 0;
    uv_close((uv_handle_t *)&state.async, NULL); /* static: nothing to free once it is closed */
    state.rt->interrupt.fd = -1;
    if (state.stop == STOP_NONE)
        timer_delete(state.timer);
    timer_delete(state.hook_timer);
}

int signals_received(void)
{
    return state.stop == STOP_NONE || state.stop == STOP_TIMEOUT ? 0 : statuses[state.stop] - 128;
}

const char *signals_reason(void)
{
    return reasons[state.stop];
}

void signals_trace(struct trace *trace)
{
    state.trace = trace;
}

bool signals_pipe_broke(void)
{
    return state.pipe_broke != 0;
}

void signals_interactive(void (*interrupted)(void *data), void *data)
{
    state.interrupted = interrupted;
    state.interrupted_data = data;
    state.break_line = state.insists = 0;
    state.interactive = interrupted != NULL;
}
