/*
 * The certificates of a TLS session, for Lua.
 */
#ifndef DBRUN_BIND_BASE_CERTIFICATES_H
#define DBRUN_BIND_BASE_CERTIFICATES_H

#include "base/certificate.h"

#include <lua.h>

/* Pushes two values: seconds until the server's certificate expires, and until the client's does; nil without
 * a certificate. Returns their number. */
int bind_push_certificates(lua_State *L, struct certificates certificates);

#endif
