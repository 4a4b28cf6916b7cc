/* core.versions: the libraries that this program was compiled against, and those that it runs with. */
#ifndef DBRUN_BIND_VERSIONS_H
#define DBRUN_BIND_VERSIONS_H

#include "bind/base/runtime.h"

/* Pushes the list of { name =, compiled =, running = }; a library that tells no version at run time has no
 * `running`. */
int bind_versions_open(lua_State *L, struct runtime *rt);

#endif
