/*
 * What is known about a command: its name as it goes over the wire, the shape of its reply, and
 * whether it may run on a connection that others share. A name that is not in the table is a command
 * all the same: its reply is taken as it comes.
 */
#ifndef DBRUN_BIND_REDIS_COMMAND_H
#define DBRUN_BIND_REDIS_COMMAND_H

#include "bind/base/runtime.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How the reply, which RESP2 gives as flat lists of strings, is told to the script. */
enum redis_shape {
    SHAPE_PLAIN,      /* as it comes */
    SHAPE_MAP,        /* k v k v ...       -> {k = v} */
    SHAPE_MAPS,       /* list of those     -> list of tables */
    SHAPE_PAIRS,      /* a b a b ...       -> {{a, b}, ...} */
    SHAPE_SCORED,     /* m s m s ...       -> {{m, s}, ...}, s a float */
    SHAPE_SCORE,      /* "1.5"             -> 1.5 */
    SHAPE_SCORES,     /* a list of those */
    SHAPE_KEY_SCORE,  /* key m s           -> {key, m, s} */
    SHAPE_KEY_SCORED, /* key {{m s} ...}  -> {key, {{m, s}, ...}} */
    SHAPE_ENTRIES,    /* {id, {f v ...}}.. -> {{id, {f = v}}, ...} */
    SHAPE_STREAMS,    /* {key, entries}..  -> {key = entries} */
    SHAPE_CLAIMED,    /* cursor entries ids -> the same, entries in shape */
    SHAPE_PLACES,     /* {{lon, lat}, ...}: floats */
    SHAPE_FOUND,      /* {name, ..., {lon, lat}}: floats in the innermost */
    SHAPE_FOUND_PART, /* one of those */
    SHAPE_DEEP_MAP,   /* maps whose values may be maps */
    SHAPE_ENTRY,      /* {id, {f v ...}}   -> {id, {f = v}} */
    SHAPE_NAMED,      /* a map whose names say what shape the values have */
    SHAPE_NAMED_LIST, /* list of such maps */
};

enum {
    COMMAND_REFUSED = 1,      /* not for connections that are pooled or shared; `instead` says what to do */
    COMMAND_HAS_SUB = 2,      /* the first argument is part of the name */
    COMMAND_OPTIONS = 4,      /* arguments change the shape, or make it block */
    COMMAND_BLOCK_LAST = 8,   /* blocks for the last argument, in seconds */
    COMMAND_BLOCK_FIRST = 16, /* ... for the first one */
    COMMAND_BLOCK_MS = 32,    /* ... for the last one, in milliseconds */
};
#define COMMAND_SLOW_PATH 0xffu /* any of the above: look closer before sending */

struct redis_command {
    enum redis_shape shape;
    unsigned flags;
    const char *instead;
    const char *name; /* upper case, NUL-terminated, in `text` */
    size_t wire_len;  /* "$3\r\nGET\r\n" at the beginning of `text` */
    char text[];
};

/* Pushes the command of that name (a userdata, kept for the next time) and returns it; raises a usage
 * error when it cannot be a command's name. The name at `idx` must be a string. */
const struct redis_command *redis_command_push(lua_State *L, struct runtime *rt, int idx);
/* Is it one that redis_command_push made? NULL when not. */
const struct redis_command *redis_command_at(lua_State *L, int idx);

/* The shape for these arguments (stack first .. top), and whether it is refused: *instead is set then. */
enum redis_shape redis_command_shape(lua_State *L, const struct redis_command *cmd, int first,
                                     const char **instead);
/* The name with its first argument where that is a part of it, for messages: "CLIENT reply". */
void redis_command_full_name(lua_State *L, const struct redis_command *cmd, int first, char *out,
                             size_t size);
/* Does it leave everything as it is? (readonly.c) */
bool redis_command_only_reads(lua_State *L, const struct redis_command *cmd, int first);
/* How long it may block, in seconds: -1 = not at all, 0 = without limit. */
double redis_command_blocks(lua_State *L, const struct redis_command *cmd, int first);

#endif
