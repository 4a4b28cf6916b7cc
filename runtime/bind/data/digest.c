#include "bind/data/digest.h"

#include "base/text.h"
#include "bind/base/error.h"

#include <openssl/evp.h>

static int digest(lua_State *L)
{
    static const char *const names[] = {"sha1", "sha256", NULL};
    int which = luaL_checkoption(L, 1, NULL, names);
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);
    unsigned char bytes[EVP_MAX_MD_SIZE];
    char hex[2 * EVP_MAX_MD_SIZE];
    unsigned n = 0;
    if (EVP_Digest(text, len, bytes, &n, which == 0 ? EVP_sha1() : EVP_sha256(), NULL) != 1)
        return bind_fail(L, bind_runtime(L), ERROR_IO, "digest: OpenSSL does not offer %s", names[which]);
    hex_write(hex, bytes, n);
    lua_pushlstring(L, hex, 2 * (size_t)n);
    return 1;
}

int bind_digest_open(lua_State *L, struct runtime *rt)
{
    lua_pushlightuserdata(L, rt);
    lua_pushcclosure(L, digest, 1);
    return 1;
}
