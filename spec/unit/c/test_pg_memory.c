/*
 * Memory runs out at one allocation of Lua after the other, in all kinds of work of an engine: the error is
 * "not enough memory", the engine stays usable, and the pool loses no connection. The allocations are chosen
 * at random (DBRUN_TEST_SEED), for each kind of work separately.
 */
#include "check.h"
#include "pg_server.h"

#include "bind/core.h"

#include <limits.h>
#include <lualib.h>

/* On average every sixth or seventh allocation; DBRUN_TEST_STRIDE=1, as in make faults: every one. */
enum { STRIDE = 12 };

static const char setup[] =
    "local mode, dir = ...\n"
    "local db = require 'dbrun.db'\n"
    "require 'dbrun.db.copy' require 'dbrun.db.copy_out' require 'dbrun.db.cursor' require "
    "'dbrun.db.transaction'\n"
    "require 'dbrun.db.batch' require 'dbrun.db.session'\n"
    "local notices, prepared = 0, 0\n"
    "local shared = mode == 'shared'\n"
    "if shared then mode = 'async' end\n"
    "local function open(opts) return db.engine{url = 'postgresql://postgres@/postgres?host=' .. dir, mode = "
    "mode, size "
    "= 1, pipeline = shared and 8 or nil, command_timeout = 20} end\n"
    "local e = db.engine{url = 'postgresql://postgres@/postgres?host=' .. dir, mode = mode, size = 4, "
    "pipeline = shared and 8 or nil, "
    "overflow = 0, "
    "command_timeout "
    "= 20,\n"
    "    on_notice = function(n) notices = notices + #n.message end,\n"
    "    on_connect = function(c) c:query 'set application_name to \"memory\"' prepared = prepared + 1 end}\n"
    "e:exec 'create table if not exists t (i int8, s text, a int[], j jsonb, y bytea, n numeric)'\n"
    "local long = ('x'):rep(300)\n"
    "local columns = {'i', 's', 'a', 'j', 'y', 'n'}\n"
    "local function rows(n) local i = 0 return function() i = i + 1\n"
    "    if i <= n then return {i, long, {i, 2}, {k = {i}}, '\\0y', '1.50'} end end end\n"
    "local work = {\n"
    "    value = function() assert(e:value('select $1::int + 1', 41) == 42) end,\n"
    "    query = function() local r = e:query('select i, i::text as t, array[i, null] as a, :s::text as s'\n"
    "        .. ' from generate_series(1, 20) i', {s = long}) assert(#r == 20 and r[20].t == '20' and r[1].s "
    "== long) end,\n"
    "    columns = function() local c, n = e:columns 'select i, now() as w from generate_series(1, 20) i'\n"
    "        assert(n == 20 and c.i[20] == 20) end,\n"
    "    rows = function() local n = 0 for r in e:rows 'select i, \\'{\"a\": [1, {}]}\\'::jsonb as j from "
    "generate_series(1, 20) i' do\n"
    "        n = n + r.i end assert(n == 210) end,\n"
    "    left = function() for r in e:rows 'select generate_series(1, 20) as i' do if r.i == 3 then break "
    "end end end,\n"
    "    fails = function() local ok, err = pcall(e.query, e, 'select 1 / 0')\n"
    "        if type(err) == 'string' then error(err, 0) end assert(err.sqlstate == '22012') end,\n"
    "    nested = function() local v = e:value [=[select array[array['a,b', null], array['c', 'd\"']]]=]\n"
    "        assert(v[2][2] == 'd\"') assert(e:value \"select '[1,5)'::int4range\".lower == 1) end,\n"
    "    transaction = function() e:transaction(function(tx) tx:exec 'delete from t' "
    "tx:transaction(function()\n"
    "        tx:value 'select 1' end) end) end,\n"
    "    session = function() local s <close> = e:session() s:value 'select 1' s:commit() end,\n"
    "    many = function() assert(e:execute_many('insert into t (i, s) values ($1, $2)', {{1, long}, {2, "
    "'b'}}) == 2) end,\n"
    "    pipeline = function() local r = e:pipeline(function(p) p:query('select $1::int as v', 1) p:query "
    "'select 2 as v' end)\n"
    "        assert(r[2][1].v == 2) end,\n"
    "    copy_in = function() assert(e:copy_in('t', columns, rows(20)) == 20) end,\n"
    "    copy_text = function() assert(e:copy_in('t', columns, rows(20), {format = 'text'}) == 20) end,\n"
    "    copy_raw = function() assert(e:copy_in('t', {'i', 's'}, '1\\ta\\n2\\tb\\n') == 2) end,\n"
    "    copy_out = function() local n = 0 for r in e:copy_out 'select i, array[i] as a from "
    "generate_series(1, 20) i' do\n"
    "        n = n + r.a[1] end assert(n == 210) end,\n"
    "    copy_out_raw = function() local n = 0 for c in e:copy_out('select generate_series(1, 20)', {raw = "
    "true}) do n = n + #c end\n"
    "        assert(n == 51) end,\n"
    "    cursor = function() e:transaction(function(tx) local n = 0\n"
    "        for r in tx:cursor('select i from generate_series(1, $1::int) i', 20, {fetch = 7}) do n = n + "
    "r.i end\n"
    "        assert(n == 210) end) end,\n"
    "    notice = function() e:exec \"do $$ begin raise notice 'one' using hint = 'h'; raise warning 'two'; "
    "end $$\" end,\n"
    "    lease = function() local c <close> = e:acquire() c:on_notice(function() notices = notices + 1 end)\n"
    "        c:exec \"do $$ begin raise notice 'own'; end $$\" assert(c.parameters.client_encoding == "
    "'UTF8')\n"
    "        assert(c:describe('select 1 as one')[1].name == 'one') c:on_notice(nil) end,\n"
    "    connect = function() e:invalidate() assert(e:value 'show application_name' == 'memory') end,\n"
    "}\n"
    "local all_places = assert(loadfile 'spec/unit/c/pg_memory_work.lua')()(work, e, open)\n"
    "local function check()\n"
    "    assert(e:value 'select 1' == 1)\n" /* follows a statement that was cut short */
    "    collectgarbage() collectgarbage()\n"
    "    assert(e:value 'show application_name' == 'memory')\n"
    "    all_places()\n"
    "    local s = e:stats()\n"
    "    assert(s.leased == 0 and s.waiting == 0, 'leased ' .. s.leased .. ', waiting ' .. s.waiting)\n"
    "end\n"
    "local names = {}\n"
    "for name, fn in pairs(work) do names[#names + 1] = name fn() end\n"
    "table.sort(names)\n"
    "local list = {}\n"
    "for i, name in ipairs(names) do list[i] = work[name] end\n"
    "return list, names, check\n";

static struct {
    bool armed;
    long until; /* allocations that still succeed */
    long fails; /* how many fail then; after the first one the collector runs */
    bool struck;
} memory;

static struct pg_server server;
static struct prng dice;

static void *allocate(void *ud, void *ptr, size_t osize, size_t nsize)
{
    (void)ud;
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

static lua_State *open_lua(const char *mode)
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
        lua_pushstring(L, mode);
        lua_pushstring(L, server.dir);
        if (lua_pcall(L, 2, 3, 0) == LUA_OK)
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

static bool still_works(lua_State *L)
{
    lua_pushvalue(L, 3);
    if (lua_pcall(L, 0, 0, 0) == LUA_OK)
        return true;
    printf("afterwards: %s\n", luaL_tolstring(L, -1, NULL));
    lua_pop(L, 2);
    return false;
}

/* Runs the function at the top (and keeps it) while the n-th allocation fails. False: there is no n-th. */
static bool try_at(lua_State *L, long n, long fails, bool *ok)
{
    lua_pushvalue(L, -1);
    memory.until = n;
    memory.fails = fails;
    memory.struck = false;
    memory.armed = true;
    int status = lua_pcall(L, 0, 0, 0);
    memory.armed = false;
    *ok = status == LUA_OK || CHECK(is_memory_error(L, status));
    *ok = CHECK(still_works(L)) && *ok;
    return memory.struck;
}

static void every_work(const char *mode, long fails)
{
    lua_State *L = open_lua(mode);
    if (!CHECK(L != NULL))
        return;
    bool ok = true;
    for (lua_Integer i = 1; ok && lua_rawgeti(L, 1, i) == LUA_TFUNCTION; i++) {
        uint32_t stride = (uint32_t)check_env("DBRUN_TEST_STRIDE", STRIDE);
        long n = prng_below(&dice, stride);
        while (try_at(L, n, fails, &ok) && ok)
            n += 1 + prng_below(&dice, stride);
        if (!ok) {
            lua_rawgeti(L, 2, i);
            printf("[%s] %s at allocation %ld\n", mode, lua_tostring(L, -1), n);
            lua_pop(L, 1);
        }
        lua_pop(L, 1);
    }
    lua_close(L);
}

static void test_async_all_fail(void)
{
    every_work("async", LONG_MAX);
}

static void test_async_one_fails(void)
{
    every_work("async", 2);
}

static void test_sync_all_fail(void)
{
    every_work("sync", LONG_MAX);
}

static void test_sync_one_fails(void)
{
    every_work("sync", 2);
}

static void test_shared_all_fail(void)
{
    every_work("shared", LONG_MAX);
}

static void test_shared_one_fails(void)
{
    every_work("shared", 2);
}

int main(void)
{
    dice = prng_new(check_seed("pg_memory"));
    if (!pg_server_start(&server))
        return 1;
    TEST("async: every allocation fails from a random one on", test_async_all_fail);
    TEST("async: one random allocation fails", test_async_one_fails);
    TEST("sync: every allocation fails from a random one on", test_sync_all_fail);
    TEST("sync: one random allocation fails", test_sync_one_fails);
    TEST("shared connections: every allocation fails from a random one on", test_shared_all_fail);
    TEST("shared connections: one random allocation fails", test_shared_one_fails);
    pg_server_stop(&server);
    return check_end("pg_memory");
}
