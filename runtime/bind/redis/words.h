/*
 * Reads the arguments of a command as the server does: where options begin, which words are options or their
 * values, which arguments are keys.
 */
#ifndef DBRUN_BIND_REDIS_WORDS_H
#define DBRUN_BIND_REDIS_WORDS_H

#include "bind/base/runtime.h"
#include "bind/redis/command_table.h"

#include <stdbool.h>

/* Calls fn(L, index, data) for each argument from stack index `first` on, as it is sent (a table is several
 * arguments, see args.c), until fn returns true. */
bool redis_each_arg(lua_State *L, int first, bool (*fn)(lua_State *L, int idx, void *data), void *data);
/* The same for the arguments up to `last`, when more is on the stack. */
bool redis_each_arg_to(lua_State *L, int first, int last, bool (*fn)(lua_State *L, int idx, void *data),
                       void *data);

/* What the options say. */
struct redis_words {
    redis_shape_id shape; /* of the reply */
    bool blocks;          /* has an option that says how long it blocks */
    double milliseconds;  /* that time; 0: without limit, or no number */
};

void redis_words_read(lua_State *L, const struct redis_fact *fact, int first, struct redis_words *out);

/* Pushes the list of the keys among the `n` arguments in the table at `args`. */
void redis_words_push_keys(lua_State *L, const struct redis_fact *fact, int args, lua_Integer n);

#endif
