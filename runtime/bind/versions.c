#include "bind/versions.h"

#include "pg/libpq.h"

#include <hiredis/hiredis.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <openssl/opensslv.h>
#include <pg_config.h>
#include <uv.h>

static void add(lua_State *L, const char *name, const char *compiled, const char *running)
{
    lua_createtable(L, 0, 3);
    lua_pushstring(L, name);
    lua_setfield(L, -2, "name");
    lua_pushstring(L, compiled);
    lua_setfield(L, -2, "compiled");
    if (running != NULL) {
        lua_pushstring(L, running);
        lua_setfield(L, -2, "running");
    }
    lua_seti(L, -2, luaL_len(L, -2) + 1);
}

int bind_versions_open(lua_State *L, struct runtime *rt)
{
    char pq[32];
    char hiredis[32];
    char uv[32];
    char pq_here[32];
    struct error missing = {0};
    (void)rt;
    int version = libpq_open(&missing) ? PQlibVersion() : 0;
    error_clear(&missing);
    if (version > 0)
        snprintf(pq, sizeof pq, "%d.%d", version / 10000, version % 10000);
    else
        snprintf(pq, sizeof pq, "missing");
    snprintf(hiredis, sizeof hiredis, "%d.%d.%d", HIREDIS_MAJOR, HIREDIS_MINOR, HIREDIS_PATCH);
    snprintf(uv, sizeof uv, "%d.%d.%d", UV_VERSION_MAJOR, UV_VERSION_MINOR, UV_VERSION_PATCH);
    snprintf(pq_here, sizeof pq_here, "%d.%d", PG_VERSION_NUM / 10000, PG_VERSION_NUM % 10000);
    lua_newtable(L);
    add(L, "Lua", LUA_VERSION_MAJOR "." LUA_VERSION_MINOR "." LUA_VERSION_RELEASE, NULL);
    add(L, "libpq", pq_here, pq);
    add(L, "hiredis", hiredis, NULL);
    add(L, "libuv", uv, uv_version_string());
    add(L, "OpenSSL", OPENSSL_VERSION_TEXT, OpenSSL_version(OPENSSL_VERSION));
    add(L, "jansson", JANSSON_VERSION, jansson_version_str());
    return 1;
}
