/* core.versions: the versions of the libraries that this program was compiled with, and of those that it runs
 * with. */
#ifndef DBRUN_BIND_VERSIONS_H
#define DBRUN_BIND_VERSIONS_H

#include "bind/base/runtime.h"

/* Pushes the list of { name =, compiled =, running = }; a library that reports no version at run time has no
 * `running`. */
int bind_versions_open(lua_State *L, struct runtime *rt);

#endif
