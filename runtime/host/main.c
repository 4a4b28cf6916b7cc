/* The program: reads the command line, runs Lua, returns the exit status. */
#include "base/error.h"
#include "base/project.h"
#include "config.h"
#include "host/heap.h"
#include "host/hint.h"
#include "host/host.h"
#include "host/script.h"
#include "host/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <lualib.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* If a standard descriptor is closed, the next socket would get its number, and print would write into the
 * socket. So opens /dev/null there, in the direction that makes reads or writes fail as on a closed
 * descriptor. */
static void guard_descriptors(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
            (void)!open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

static int cannot_watch(lua_State *L, int err)
{
    const char *hint = error_limit_hint(err);
    return luaL_error(L, "cannot watch for signals: %s", hint ? hint : strerror(err));
}

/* lua_CFunction under pcall: everything that can raise. Leaves the status of sched_run and the error. */
static int run(lua_State *L)
{
    struct host *h = lua_touserdata(L, 1);
    state_fill(L, h);
    if (!signals_start(h->rt, h->options.timeout))
        return cannot_watch(L, errno);
    lua_settop(L, 0);
    lua_pushcfunction(L, program_main);
    h->phase = PHASE_RUNNING;
    int status = sched_run(L, h->rt->sched, 0);
    lua_pushboolean(L, status == LUA_OK);
    lua_insert(L, 1);
    lua_settop(L, 2);
    return 2;
}

static int run_lua(struct host *h)
{
    lua_State *L = luaL_newstate();
    if (L == NULL) {
        fprintf(stderr, "%s: cannot create state: not enough memory\n", h->progname);
        return STATUS_FAILED;
    }
    heap_serve(L);
    lua_pushcfunction(L, run);
    lua_pushlightuserdata(L, h);
    if (lua_pcall(L, 1, 2, 0) != LUA_OK) {
        lua_pushboolean(L, false);
        lua_insert(L, -2);
    }
    return exit_close(L, h);
}

/* The script named by the program's own name: a link called dbmate runs the script dbmate. */
static char *script_of_link(const char *progname)
{
    static char dbmate[] = "dbmate";
    const char *slash = strrchr(progname, '/');
    return strcmp(slash == NULL ? progname : slash + 1, dbmate) == 0 ? dbmate : NULL;
}

/* For a run by such a link: all arguments are the script's. */
static bool prepare_link(struct host *h, char *name)
{
    h->link_argv = calloc((size_t)h->argc + 2, sizeof *h->link_argv);
    h->options.script = 1;
    if (h->link_argv == NULL) {
        fprintf(stderr, "%s: not enough memory\n", h->progname);
        return false;
    }
    h->link_argv[0] = h->argv[0];
    h->link_argv[1] = name;
    for (int i = 1; i < h->argc; i++)
        h->link_argv[i + 1] = h->argv[i];
    h->argv = h->link_argv;
    h->argc++;
    if (script_find_named(name, h->script, sizeof h->script, &h->inside))
        return true;
    fprintf(stderr, "%s: there is no scripts/%s.lua here or in the installation\n", h->progname, name);
    return false;
}

/* Reports what is wrong with the command line, which can hold any bytes, and returns false. */
__attribute__((format(printf, 2, 3))) static bool refuse(const struct host *h, const char *fmt, ...)
{
    char text[4096];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    report_line(h->progname, NULL, text);
    return false;
}

/* Refuses an unknown option, and names the nearest one. */
static bool refuse_option(const struct host *h)
{
    const struct options *o = &h->options;
    struct buf names = {0};
    char near[128];
    const char *word = o->unknown + strspn(o->unknown, "-");
    bool ok = true;
    for (size_t i = 0; ok && options_words(i) != NULL; i++) {
        const char *name = options_words(i)->name + strspn(options_words(i)->name, "-");
        ok = name[0] == '\0' || name[1] == '\0' || buf_add(&names, name, strlen(name) + 1);
    }
    ok = ok && hint_find(word, o->unknown_len - (size_t)(word - o->unknown), &names, near, sizeof near);
    buf_free(&names);
    if (ok)
        return refuse(h, "%s; did you mean '--%s'?", o->error, near);
    return refuse(h, "%s (dbrun --help lists them)", o->error);
}

/* Writes where commands of a project were searched, for an error. */
static void tell_places(const struct project *p, char *here, size_t here_size, char *passed,
                        size_t passed_size)
{
    passed[0] = '\0';
    snprintf(here, here_size, "%s", p->folder[0] != '\0' ? p->folder : "here");
    if (p->reason != PROJECT_NONE_PASSED)
        snprintf(passed, passed_size, " (the project in %s is not used: %s; -C names it)", p->passed_by,
                 p->reason == PROJECT_OF_OTHERS ? "another user owns it" : "all may write there");
}

/* Refuses a script that cannot be opened, and names the nearest command. */
static bool refuse_script(const struct host *h, const char *name, const char *reason)
{
    struct project project;
    struct buf names = {0};
    char here[PATH_MAX + 16];
    char passed[PATH_MAX + 128];
    char near[NAME_MAX + 1];
    size_t len = strlen(name);
    bool is_lua = len > 4 && strcmp(name + len - 4, ".lua") == 0;
    if (strchr(name, '/') != NULL || name[0] == '.' || len == 0)
        return refuse(h, "cannot open %s: %s", name, reason);
    project_find(&project);
    tell_places(&project, here, sizeof here, passed, sizeof passed);
    bool ok = script_names(&names) && hint_find(name, is_lua ? len - 4 : len, &names, near, sizeof near);
    buf_free(&names);
    if (!ok)
        near[0] = '\0';
    const char *ask = ok ? "; did you mean '" : "";
    const char *end = ok ? "'?" : "";
    if (strchr(name, '.') != NULL)
        return refuse(h, "cannot open %s: %s%s%s%s", name, reason, ask, near, end);
    if (here[0] == '/')
        return refuse(h, "cannot open %s, nor scripts/%s.lua in %s or in the installation: %s%s%s%s", name,
                      name, here, reason, ask, near, end);
    return refuse(h, "cannot open %s, nor scripts/%s.lua here or in the installation: %s%s%s%s%s", name, name,
                  reason, passed, ask, near, end);
}

/* -C: enters the folders in their order, each relative to the one before. */
static bool enter_folders(const struct host *h)
{
    const struct options *o = &h->options;
    for (int i = 0; i < o->folder_count; i++)
        if (chdir(o->folders[i]) != 0)
            return refuse(h, "-C: cannot go to %s: %s", o->folders[i], strerror(errno));
    return true;
}

/* Checks what can be checked before anything runs. */
static bool prepare(struct host *h)
{
    struct options *o = &h->options;
    char *link = script_of_link(h->progname);
    if (link != NULL)
        return prepare_link(h, link);
    if (!options_parse(o, h->argc, h->argv) || !options_environment(o))
        return o->unknown != NULL ? refuse_option(h) : refuse(h, "%s", o->error);
    if (o->help || o->about)
        return true;
    if (o->trace == NULL && o->trace_limit != 0)
        return refuse(h, "--trace-limit: there is no trace to limit (--trace FILE.html writes one)");
    if (!enter_folders(h))
        return false;
    if (o->env_file != NULL && access(o->env_file, R_OK) != 0)
        return refuse(h, "--env-file: cannot read %s: %s", o->env_file, strerror(errno));
    if (o->script < h->argc && o->is_stdin)
        snprintf(h->script, sizeof h->script, "%s", h->argv[o->script]);
    else if (o->script < h->argc && !script_find(h->argv[o->script], h->script, sizeof h->script, &h->inside))
        return refuse_script(h, h->argv[o->script], strerror(errno));
    return true;
}

int main(int argc, char **argv)
{
    static struct host host;
    struct host *h = &host;
    h->argc = argc;
    h->argv = argv;
    h->progname = argc > 0 && argv[0][0] != '\0' ? argv[0] : "dbrun";
    guard_descriptors();
    signals_ignore_pipe();
    int status = STATUS_USAGE;
    if (prepare(h)) {
        status = STATUS_OK;
        if (h->options.help)
            options_print_help(stdout);
        else if (h->options.about)
            printf("dbrun %s (%s)\n", DBRUN_VERSION, LUA_RELEASE);
        else {
            if (h->options.version)
                printf("%s\n", LUA_COPYRIGHT);
            status = run_trace_open(h) ? run_lua(h) : STATUS_USAGE;
        }
    }
    options_free(&h->options);
    free(h->link_argv);
    finish_process(finish_flush(h, status));
}
