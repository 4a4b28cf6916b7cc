/* The words of the command line, for completion and its scripts. */
#ifndef DBRUN_HOST_WORDS_H
#define DBRUN_HOST_WORDS_H

#include <lua.h>

/*
 * Stack: dbrun.core, which gets the function `words`. words() -> a list of the program's options ({name,
 * value, choices, about}), a list of the names of scripts. words(name) -> the path of the script of that name
 * or nil, and whether it is inside the binary.
 */
void words_install(lua_State *L);

#endif
