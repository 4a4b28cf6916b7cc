rockspec_format = "3.0"
package = "dbrun"
version = "scm-1"
source = {
    url = "git+file://.",
}
description = {
    summary = "PostgreSQL and Redis for Lua: tasks, pools, migrations, verification",
    detailed = [[
        Pooled PostgreSQL connections (libpq) and a Redis client (hiredis) on a libuv loop, for a stock
        Lua 5.4. The same sources build `dbrun`, a `lua` with all of it inside.
    ]],
    license = "MIT",
}
supported_platforms = { "linux" }
dependencies = { "lua ~> 5.4" }
external_dependencies = {
    LIBPQ = { header = "postgresql/libpq-fe.h" },
    UV = { header = "uv.h" },
    HIREDIS = { header = "hiredis/hiredis.h" },
    JANSSON = { header = "jansson.h" },
    OPENSSL = { header = "openssl/ssl.h" },
}
build = {
    type = "make",
    build_target = "core",
    install_target = "install-rock",
    build_variables = {
        BUILD = "build/rock",
        CFLAGS = "$(CFLAGS)",
        LUA_INCDIR = "$(LUA_INCDIR)",
        HIREDIS_CFLAGS = "-I$(HIREDIS_INCDIR)",
        HIREDIS_LIBS = "-L$(HIREDIS_LIBDIR) -lhiredis",
    },
    install_variables = {
        BUILD = "build/rock",
        CFLAGS = "$(CFLAGS)",
        LUA_INCDIR = "$(LUA_INCDIR)",
        HIREDIS_CFLAGS = "-I$(HIREDIS_INCDIR)",
        HIREDIS_LIBS = "-L$(HIREDIS_LIBDIR) -lhiredis",
        INST_LIBDIR = "$(LIBDIR)",
        INST_LUADIR = "$(LUADIR)",
    },
}
