/*
 * What is known about a command: its name as it is sent, the shape of its reply, and whether it may run on a
 * shared connection. A command that is not in the table may run; its reply is plain.
 */
#ifndef DBRUN_BIND_REDIS_COMMAND_H
#define DBRUN_BIND_REDIS_COMMAND_H

#include "bind/base/runtime.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How a reply, which RESP2 gives as flat lists of strings, becomes Lua values. */
enum redis_shape {
    SHAPE_PLAIN,      /* as the server sends it */
    SHAPE_MAP,        /* k v k v ...       -> {k = v} */
    SHAPE_MAPS,       /* list of maps      -> list of tables */
    SHAPE_PAIRS,      /* a b a b ...       -> {{a, b}, ...} */
    SHAPE_SCORED,     /* m s m s ...       -> {{m, s}, ...}, s a float */
    SHAPE_SCORE,      /* "1.5"             -> 1.5 */
    SHAPE_SCORES,     /* list of scores    -> list of floats */
    SHAPE_KEY_SCORE,  /* key m s           -> {key, m, s} */
    SHAPE_KEY_SCORED, /* key {{m s} ...}  -> {key, {{m, s}, ...}} */
    SHAPE_ENTRIES,    /* {id, {f v ...}}.. -> {{id, {f = v}}, ...} */
    SHAPE_STREAMS,    /* {key, entries}..  -> {key = entries} */
    SHAPE_CLAIMED,    /* cursor entries ids -> the same, entries in shape */
    SHAPE_PLACES,     /* {{lon, lat}, ...}: floats */
    SHAPE_FOUND,      /* {name, ..., {lon, lat}}: floats in the innermost */
    SHAPE_FOUND_PART, /* one element of SHAPE_FOUND */
    SHAPE_DEEP_MAP,   /* maps whose values may be maps */
    SHAPE_ENTRY,      /* {id, {f v ...}}   -> {id, {f = v}} */
    SHAPE_NAMED,      /* a map whose keys tell the shapes of its values */
    SHAPE_NAMED_LIST, /* list of such maps */
};

enum {
    COMMAND_REFUSED = 1,      /* refused, except by raw(); `instead` says what to do */
    COMMAND_HAS_SUB = 2,      /* the first argument is part of the name */
    COMMAND_OPTIONS = 4,      /* arguments change the shape, or make the command block */
    COMMAND_BLOCK_LAST = 8,   /* the last argument says how many seconds the command blocks */
    COMMAND_BLOCK_FIRST = 16, /* the first argument says so */
    COMMAND_BLOCK_MS = 32,    /* the last argument says so, in milliseconds */
};

struct redis_command {
    enum redis_shape shape;
    unsigned flags;
    const char *instead;
    const char *name; /* upper case, NUL-terminated, in `text` */
    size_t wire_len;  /* "$3\r\nGET\r\n" at the beginning of `text` */
    char text[];
};

/* Pushes and returns the command of the name at `idx`, which must be a string. The command is a userdata,
 * kept for the next call. Raises a usage error when the name is not valid. */
const struct redis_command *redis_command_push(lua_State *L, struct runtime *rt, int idx);

/* The shape of the reply for these arguments (stack first .. top). *instead is set when the command is
 * refused, else NULL. */
enum redis_shape redis_command_shape(lua_State *L, const struct redis_command *cmd, int first,
                                     const char **instead);
/* The name for messages, with the subcommand if there is one: "CLIENT reply". */
void redis_command_full_name(lua_State *L, const struct redis_command *cmd, int first, char *out,
                             size_t size);
/* Is it certain that the command changes nothing? (readonly.c) */
bool redis_command_only_reads(lua_State *L, const struct redis_command *cmd, int first);
/* How long the command may block, in seconds: -1 = not at all, 0 = without limit. */
double redis_command_blocks(lua_State *L, const struct redis_command *cmd, int first);

#endif
