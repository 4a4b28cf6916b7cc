/*
 * Checks of the arguments of C functions that scripts call: each error is of kind `usage` and says which
 * function was called, which argument is wrong, and what is expected. The counterpart of lua/dbrun/args.lua.
 */
#ifndef DBRUN_BIND_ARGS_H
#define DBRUN_BIND_ARGS_H

#include "bind/base/runtime.h"

/* Sets the words for errors of the class whose metatable is on top of the stack: what an object is ("an
 * engine"), and its name in examples ("engine"). */
void bind_class_words(lua_State *L, const char *what, const char *as);

/* The userdata at 1 if its metatable is upvalue number `upvalue` of the running function, else NULL. Takes
 * half as long as luaL_testudata. */
void *bind_of(lua_State *L, int upvalue);
/* The object at 1, for the methods and metamethods that bind_class made: their upvalue 2 is the metatable.
 * Slower in other functions. Raises for another value: the method was called with '.', not ':'. */
void *bind_self(lua_State *L, const char *tname);
/* Raises that error. `fn` is the function's name; NULL: it is looked up in the class. */
int bind_wrong_self(lua_State *L, const char *tname, const char *fn);

/* The name of the running function of the class, as scripts write it; pushed, so that it stays valid. */
const char *bind_push_name(lua_State *L, const char *tname);
/* Raises: the argument `what` of the running method at `arg` must be `expected` ("a string"). */
int bind_wrong_arg(lua_State *L, const char *tname, int arg, const char *what, const char *expected);
/* Raises unless the argument has this type of Lua: a number, string, table or function. */
void bind_check_type(lua_State *L, const char *tname, int arg, const char *what, int type);
/* Raises when the method, which takes no arguments, got one. */
void bind_check_none(lua_State *L, const char *tname);
/* Describes the value at this index for errors: "nil", "5", "a string". Never the text of a string, which may
 * be secret. Pushes it. */
const char *bind_push_got(lua_State *L, int arg);

#endif
