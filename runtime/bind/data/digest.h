/* core.digest(name, text) -> hex: "sha1" or "sha256" of a text, in lower-case digits. */
#ifndef DBRUN_BIND_DIGEST_H
#define DBRUN_BIND_DIGEST_H

#include "bind/base/runtime.h"

int bind_digest_open(lua_State *L, struct runtime *rt);

#endif
