/*
 * Memory runs out at every single allocation of Lua while commands are written, awaited and turned into Lua
 * values: the error is "not enough memory", the client stays usable, and no reply is lost.
 */
#include "check.h"

#include "bind/core.h"

#include <limits.h>
#include <lualib.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static const char setup[] =
    "local redis = require 'dbrun.redis'\n"
    "local r = redis.client{path = ..., command_timeout = 10}\n"
    "local long = ('x'):rep(300)\n"
    "local function work()\n"
    "    assert(r:set('k' .. #long, long) == 'OK')\n"
    "    assert(r:get('k300') == long)\n"
    "    assert(r:incr('n') > 0)\n"
    "    assert(r:hset('h', {a = 1, b = long}) >= 0)\n"
    "    assert(r:hgetall('h').b == long)\n"
    "    assert(#r:lrange('l', 0, -1) == 3)\n"
    "    assert(r:zrange('z', 0, -1, 'WITHSCORES')[2][2] == 2.5)\n"
    "    local ok, e = pcall(r.lpush, r, 'n', 1)\n"
    "    if type(e) == 'string' then error(e, 0) end\n"
    "    assert(not ok and e.code == 'WRONGTYPE')\n"
    "    local replies = r:pipeline(function(p) p:get('k300') p:incr('k300') p:hgetall('h') end)\n"
    "    assert(replies[1] == long and replies[3].a == '1')\n"
    "    assert(r:multi(function(tx) tx:set('m', 1) tx:get('m') end)[2] == '1')\n"
    "    local c <close> = r:acquire()\n"
    "    assert(c:ping() == 'PONG')\n"
    "    assert(r:blpop('l2', 0.01) == nil)\n"
    "    local s <close> = r:subscribe('ch')\n"
    "    r:publish('ch', long)\n"
    "    assert(s:messages()().payload == long)\n"
    "end\n"
    "local function check()\n"
    "    collectgarbage()\n"
    "    assert(r:ping() == 'PONG')\n"
    "    local s = r:stats()\n"
    "    assert(s.in_flight == 0, 'in flight: ' .. s.in_flight)\n"
    "    assert(s.waiting == 0, 'waiting: ' .. s.waiting)\n"
    "    assert(s.leased == 1, 'leased: ' .. s.leased)\n"
    "end\n"
    "r:del('l') r:rpush('l', 1, 2, 3) r:zadd('z', 1, 'a', 2.5, 'b')\n"
    "work()\n"
    "return work, check\n";

static struct {
    bool armed;
    long until; /* allocations that still succeed */
    long fails; /* how many fail then; after the first one the collector runs */
    bool struck;
} memory;

static void *allocate(void *ud, void *ptr, size_t osize, size_t nsize)
{
    (void)ud;
    (void)osize;
    if (nsize == 0) {
        free(ptr);
        return NULL;
    }
    bool grows = !ptr || nsize > osize;
    if (memory.armed && grows && memory.until-- <= 0 && memory.fails-- > 0) {
        memory.struck = true;
        return NULL;
    }
    return realloc(ptr, nsize);
}

/* ---- a private server ---- */

static char dir[] = "/tmp/dbrun-ctest-XXXXXX";
static char path[64];
static pid_t server;

/* The socket's name exists before the server listens on it. */
static bool listens(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    snprintf(addr.sun_path, sizeof addr.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof addr) == 0;
    close(fd);
    return ok;
}

static bool start_server(void)
{
    if (!mkdtemp(dir))
        return false;
    snprintf(path, sizeof path, "%s/redis.sock", dir);
    server = fork();
    if (server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (!freopen("/dev/null", "w", stdout))
            _exit(126);
        execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", path, "--dir", dir, "--save",
               "", (char *)NULL);
        _exit(127);
    }
    for (int i = 0; i < 1000 && !listens(); i++)
        usleep(10000);
    return server > 0 && listens();
}

static void stop_server(void)
{
    char command[64];
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    CHECK_EQ(system(command), 0);
}

/* ---- Lua ---- */

static bool run(lua_State *L, const char *what)
{
    if (lua_pcall(L, 0, 0, 0) == LUA_OK)
        return true;
    printf("%s: %s\n", what, luaL_tolstring(L, -1, NULL));
    lua_pop(L, 2);
    return false;
}

static lua_State *open_lua(void)
{
    lua_State *L = lua_newstate(allocate, NULL);
    luaL_openlibs(L);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    lua_pushcfunction(L, bind_core);
    lua_setfield(L, -2, "dbrun.core");
    lua_getglobal(L, "package");
    lua_pushliteral(L, "lua/?.lua");
    lua_setfield(L, -2, "path");
    lua_settop(L, 0);
    if (luaL_loadstring(L, setup) == LUA_OK) {
        lua_pushstring(L, path);
        if (lua_pcall(L, 1, 2, 0) == LUA_OK)
            return L;
    }
    printf("%s\n", luaL_tolstring(L, -1, NULL));
    lua_close(L);
    return NULL;
}

static bool is_memory_error(lua_State *L, int status)
{
    const char *text = luaL_tolstring(L, -1, NULL);
    bool ok = status == LUA_ERRMEM || strstr(text, "not enough memory");
    if (!ok)
        printf("another error: %s\n", text);
    lua_pop(L, 2);
    return ok;
}

static void every_allocation(long fails)
{
    lua_State *L = open_lua();
    if (!CHECK(L != NULL))
        return;
    bool ok = true;
    for (long n = 0; ok; n++) {
        lua_pushvalue(L, 1);
        memory.until = n;
        memory.fails = fails;
        memory.struck = false;
        memory.armed = true;
        int status = lua_pcall(L, 0, 0, 0);
        memory.armed = false;
        if (status == LUA_OK && !memory.struck)
            break;
        ok = status == LUA_OK || CHECK(is_memory_error(L, status));
        lua_pushvalue(L, 2);
        ok = CHECK(run(L, "afterwards")) && ok;
        if (!ok)
            printf("at allocation %ld\n", n);
    }
    lua_close(L);
}

static void test_all_fail(void)
{
    every_allocation(LONG_MAX);
}

static void test_one_fails(void)
{
    every_allocation(2);
}

int main(void)
{
    if (!start_server()) {
        fprintf(stderr, "redis-server cannot be started\n");
        return 1;
    }
    TEST("every allocation fails from the n-th on, for every n", test_all_fail);
    TEST("the n-th allocation fails, for every n", test_one_fails);
    stop_server();
    return check_end("redis_memory");
}
