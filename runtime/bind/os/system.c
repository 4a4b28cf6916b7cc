#include "bind/os/system.h"

#include "bind/base/error.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

/* kill(pid, number) -> false when there is no such process */
static int process_kill(lua_State *L)
{
    pid_t pid = (pid_t)luaL_checkinteger(L, 1);
    int sig = (int)luaL_checkinteger(L, 2);
    luaL_argcheck(L, pid > 0, 1, "a process number expected");
    bool sent = kill(pid, sig) == 0;
    if (!sent && errno != ESRCH)
        return bind_fail(L, bind_runtime(L), ERROR_IO, "cannot send signal %d to process %d: %s", sig,
                         (int)pid, strerror(errno));
    lua_pushboolean(L, sent);
    return 1;
}

/* ids() -> pid, parent's pid, effective uid, effective gid */
static int process_ids(lua_State *L)
{
    lua_pushinteger(L, getpid());
    lua_pushinteger(L, getppid());
    lua_pushinteger(L, (lua_Integer)geteuid());
    lua_pushinteger(L, (lua_Integer)getegid());
    return 4;
}

/* host() -> the host name, cut to 255 bytes */
static int process_host(lua_State *L)
{
    char name[256];
    if (gethostname(name, sizeof(name)) != 0 && errno != ENAMETOOLONG)
        return bind_fail(L, bind_runtime(L), ERROR_IO, "cannot read the machine's name: %s", strerror(errno));
    name[sizeof(name) - 1] = '\0';
    lua_pushstring(L, name);
    return 1;
}

static void push_groups(lua_State *L, const char *name, gid_t gid)
{
    int n = 0;
    getgrouplist(name, gid, NULL, &n);
    gid_t *groups = lua_newuserdatauv(L, (size_t)(n + 1) * sizeof(*groups), 0);
    if (getgrouplist(name, gid, groups, &n) < 0) {
        groups[0] = gid;
        n = 1;
    }
    lua_createtable(L, n, 0);
    for (int i = 0; i < n; i++) {
        lua_pushinteger(L, (lua_Integer)groups[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_remove(L, -2);
}

/* user(name | uid) -> {name=, uid=, gid=, home=, groups=} or nil */
static int process_user(lua_State *L)
{
    const struct passwd *pw = NULL;
    if (lua_isinteger(L, 1))
        pw = getpwuid((uid_t)lua_tointeger(L, 1));
    else
        pw = getpwnam(luaL_checkstring(L, 1));
    if (!pw)
        return 0;
    lua_createtable(L, 0, 5);
    lua_pushstring(L, pw->pw_name);
    lua_setfield(L, -2, "name");
    lua_pushinteger(L, (lua_Integer)pw->pw_uid);
    lua_setfield(L, -2, "uid");
    lua_pushinteger(L, (lua_Integer)pw->pw_gid);
    lua_setfield(L, -2, "gid");
    lua_pushstring(L, pw->pw_dir);
    lua_setfield(L, -2, "home");
    push_groups(L, pw->pw_name, pw->pw_gid);
    lua_setfield(L, -2, "groups");
    return 1;
}

/* environ() -> {"KEY=value", ...} */
static int process_environ(lua_State *L)
{
    extern char **environ;
    lua_newtable(L);
    for (int i = 0; environ && environ[i]; i++) {
        lua_pushstring(L, environ[i]);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

/* NAME -> number, and number -> NAME */
static void push_signals(lua_State *L)
{
    static const struct {
        const char *name;
        int number;
    } signals[] = {
        {"HUP", SIGHUP},   {"INT", SIGINT},   {"QUIT", SIGQUIT}, {"ILL", SIGILL},   {"TRAP", SIGTRAP},
        {"ABRT", SIGABRT}, {"BUS", SIGBUS},   {"FPE", SIGFPE},   {"KILL", SIGKILL}, {"USR1", SIGUSR1},
        {"SEGV", SIGSEGV}, {"USR2", SIGUSR2}, {"PIPE", SIGPIPE}, {"ALRM", SIGALRM}, {"TERM", SIGTERM},
        {"CHLD", SIGCHLD}, {"CONT", SIGCONT}, {"STOP", SIGSTOP}, {"TSTP", SIGTSTP}, {"TTIN", SIGTTIN},
        {"TTOU", SIGTTOU}, {"XCPU", SIGXCPU}, {"XFSZ", SIGXFSZ}, {"SYS", SIGSYS},
    };
    lua_newtable(L);
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        lua_pushinteger(L, signals[i].number);
        lua_setfield(L, -2, signals[i].name);
        lua_pushstring(L, signals[i].name);
        lua_rawseti(L, -2, signals[i].number);
    }
}

void bind_system_functions(lua_State *L, struct runtime *rt)
{
    static const luaL_Reg functions[] = {
        {"kill", process_kill}, {"ids", process_ids},         {"host", process_host},
        {"user", process_user}, {"environ", process_environ}, {NULL, NULL},
    };
    lua_pushlightuserdata(L, rt);
    luaL_setfuncs(L, functions, 1);
    push_signals(L);
    lua_setfield(L, -2, "signals");
}
