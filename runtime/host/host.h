/* One run of the program: what the files of this folder share. It lives in main's frame. */
#ifndef DBRUN_HOST_HOST_H
#define DBRUN_HOST_HOST_H

#include "bind/base/runtime.h"
#include "host/embedded.h"
#include "host/options.h"

#include <limits.h>

enum { STATUS_OK = 0, STATUS_FAILED = 1, STATUS_USAGE = 2 };

/* RUNNING: inside sched_run; ENDING: os.exit(code, true) ends the tasks; CLOSING: inside lua_close. */
enum phase { PHASE_STARTING, PHASE_RUNNING, PHASE_ENDING, PHASE_CLOSING };

struct host {
    struct options options;
    int argc;
    char **argv;
    char **link_argv; /* argv with the script's name inserted, if a link named the script; else NULL */
    const char *progname;
    char script[PATH_MAX];                /* the file that argv[options.script] means */
    const struct embedded_module *inside; /* set if that file is inside the binary; else NULL */
    struct runtime *rt;
    struct trace *trace; /* --trace; NULL: none */
    int step;            /* the present step of program.c */
    int action;          /* number of -e, -l and -W options begun */
    bool preparing;      /* --stack starts the servers: its errors are reported without a traceback */
    bool exit_asked;     /* os.exit(status, true) */
    bool returns_status; /* the current call is the script, whose result is the exit status */
    enum phase phase;
    int exit_status; /* os.exit's */
    int end_status;  /* the exit status once the state is closed */
    int script_status;
};

/* ---- state.c ---- */

/* Fills a new Lua state: libraries, `arg`, dbrun.core with core.options, the embedded modules. May
 * raise; sets h->rt. */
void state_fill(lua_State *L, struct host *h);
/* The host of this Lua state. */
struct host *state_host(lua_State *L);

/* ---- program.c ---- */

/* lua_CFunction, the body of the root task. */
int program_main(lua_State *L);

/* ---- status.c ---- */

/* Takes the script's exit status from the two values at `index` that it returned. Raises an error when the
 * value cannot be a status, and for nil or false with a reason: a message or an error object. */
void status_take(lua_State *L, struct host *h, int index);
/* lua_CFunction, upvalue 1 the host, core.status(n): the status to use when the script returns none. */
int status_set(lua_State *L);

/* ---- repl.c ---- */

/* Reads, runs and prints until the input ends. The root task's function returns its result directly, so that
 * the prompt adds no C frame below what is typed. */
int repl_main(lua_State *L, struct host *h);

/* ---- report.c ---- */

/* "progname: text" on stderr, secrets masked; without the name when it is NULL. */
void report_line(const char *progname, struct runtime *rt, const char *text);
/* Prints the error on top of the stack, which the script did not catch, and returns its exit status. */
int report_error(lua_State *L, struct host *h);
/* lua_CFunction, upvalue 1 the host: the message handler of a chunk. As in lua, it turns the error into text,
 * with a traceback unless the error has __tostring, before the stack is unwound. dbrun's own errors stay
 * objects. */
int report_handler(lua_State *L);
/* Replaces the error on top by what lua would print for it: its text with the traceback. */
void report_push_text(lua_State *L);
/* True for an error object of this kind (NULL = any). */
bool report_is_kind(lua_State *L, int index, const char *kind);

/* ---- run_trace.c: --trace ---- */

/* Opens the file before anything runs; false when it cannot be written, which has been reported. */
bool run_trace_open(struct host *h);
/* Call it when the runtime exists: its waits are recorded from now on. */
void run_trace_attach(struct host *h);
/* Call it when the program has ended. */
void run_trace_close(struct host *h, int status);

/* ---- finish.c ---- */

/* Ends the trace and flushes; when stdout did not take everything, prints a line on stderr and returns a
 * status other than 0. */
int finish_flush(struct host *h, int status);
/* Ends the process. */
void finish_process(int status) __attribute__((noreturn));

/* ---- exit.c ---- */

/* The first thing in a new state: with it, the last finaliser of lua_close ends the process. */
void exit_begin(lua_State *L, struct host *h);
/* Replaces os.exit, and sets core.cover_exit in the table on top of the stack. */
void exit_install(lua_State *L, struct host *h);
/* Closes the state and returns the exit status. Stack: whether the program succeeded, and the error if not,
 * which is reported. */
int exit_close(lua_State *L, struct host *h);

#endif
