/*
 * The facts about the commands of Redis and Valkey: where their keys are, where their options begin, the
 * shape of their replies, what they may change, and which nodes of a cluster they concern. command_table.c is
 * generated (see table/README.md); this header says what it means.
 *
 * Arguments are counted from 1 as they are sent: the subcommand of a command that has some is argument 1.
 */
#ifndef DBRUN_BIND_REDIS_COMMAND_TABLE_H
#define DBRUN_BIND_REDIS_COMMAND_TABLE_H

#include <stddef.h>
#include <stdint.h>

/* ---- shapes of replies ---- */

/* How a reply, which RESP2 gives as flat lists of strings, becomes Lua values. A shape applies only to values
 * that fit it: an error, a nil or an integer is the same in every shape. */
enum redis_shape_kind {
    SHAPE_IS_PLAIN,  /* as the server sends it */
    SHAPE_IS_NUMBER, /* "1.5"           -> 1.5 */
    SHAPE_IS_LIST,   /* a list whose elements have the shape `each` */
    SHAPE_IS_TUPLE,  /* a list: the first elements have the shapes of `parts`, the others `each` */
    SHAPE_IS_MAP,    /* k v k v ...     -> {k = v}; the shape of v is that of the part called k, or `each` */
    SHAPE_IS_FIELDS, /* f v f v ... -> {f = v}; a repeated field becomes the list of its values */
    SHAPE_IS_ROWS,   /* a b a b ...     -> {{a, b}, ...}; the columns have the shapes of `parts` */
};

struct redis_shape_part {
    const char *name; /* of a map */
    uint8_t shape;
};

struct redis_shape {
    uint8_t kind;
    uint8_t each;
    uint8_t count; /* of parts */
    const struct redis_shape_part *parts;
};

/* A shape is the index of its description here. */
typedef uint8_t redis_shape_id;
enum { SHAPE_PLAIN = 0 };
extern const struct redis_shape redis_shapes[];
extern const size_t redis_shape_count;

/* ---- keys and options ---- */

enum redis_keys_kind {
    KEYS_END,             /* ends the list of rules */
    KEYS_RANGE,           /* from argument `first` to `last` (below 0: counted from the end) */
    KEYS_RANGE_NOT_EMPTY, /* the same, except an empty string */
    KEYS_COUNTED,         /* from `first` on, as many as argument `last` says */
};

struct redis_keys {
    uint8_t kind;
    int8_t first;
    int8_t last;
    int8_t step;
};

enum redis_option_keys { OPTION_NO_KEYS, OPTION_KEY, OPTION_ALL_KEYS, OPTION_HALF_KEYS };

/* The number of arguments that follow an option; OPTION_TAKES_ALL = all the rest. */
enum { OPTION_TAKES_ALL = 255 };

struct redis_option {
    const char *word; /* NULL ends the list */
    uint8_t takes;
    uint8_t keys;         /* which of these arguments are keys */
    redis_shape_id shape; /* of the reply with this option; SHAPE_PLAIN: does not change it */
    uint8_t blocks;       /* the argument is how many milliseconds the command may block */
};

/* ---- commands ---- */

/* To which nodes of a cluster a command without keys is sent; for a command with keys: whether it can be
 * split by slot. */
enum redis_request_policy { REQUEST_ONE, REQUEST_SHARDS, REQUEST_NODES, REQUEST_SPLIT };

/* How the replies of several nodes become one. */
enum redis_response_policy {
    RESPONSE_JOIN, /* the lists one after the other */
    RESPONSE_ALL_SUCCEEDED,
    RESPONSE_ONE_SUCCEEDED,
    RESPONSE_SUM, /* the sum of the numbers, or of each number in a table */
    RESPONSE_MIN,
    RESPONSE_AND,
    RESPONSE_UNION, /* the lists without repetitions */
    RESPONSE_ANY,   /* any reply that is not nil */
};

enum {
    COMMAND_REFUSED = 1,       /* refused, except by raw() (not in the table) */
    COMMAND_HAS_SUB = 2,       /* the first argument is part of the name */
    COMMAND_OPTIONS = 4,       /* options change the shape, or make the command block */
    COMMAND_BLOCK_LAST = 8,    /* the last argument says how many seconds the command blocks */
    COMMAND_BLOCK_FIRST = 16,  /* the first argument says how many seconds */
    COMMAND_BLOCK_MS = 32,     /* the last argument says how many milliseconds */
    COMMAND_READS = 64,        /* it changes nothing: --read-only lets it through */
    COMMAND_REPLICA = 128,     /* a replica may answer it */
    COMMAND_WORDS_END = 256,   /* options end at the first argument that is no option */
    COMMAND_FIELDS = 512,      /* its last arguments are fields and values */
    COMMAND_BLOCK_WORD = 1024, /* an option says for how long it blocks */
    COMMAND_OVERTAKES = 2048,  /* it ends or shows what may be running on the connection that it comes from */
};

/* Flags that need no special treatment in a call. */
enum { COMMAND_QUIET = COMMAND_READS | COMMAND_REPLICA | COMMAND_WORDS_END | COMMAND_FIELDS };

struct redis_fact {
    const char *name; /* "GET", "XINFO STREAM" */
    redis_shape_id shape;
    redis_shape_id both; /* with two options that change the shape */
    uint16_t flags;
    uint8_t request;
    uint8_t response;
    uint8_t after;                      /* options begin after this many arguments */
    uint8_t after_keys;                 /* plus the number that this argument says; 0: none */
    const struct redis_keys *keys;      /* NULL: none */
    const struct redis_option *options; /* NULL: no relevant options */
};

/* Sorted by name (bytes). */
extern const struct redis_fact redis_facts[];
extern const size_t redis_fact_count;

#endif
