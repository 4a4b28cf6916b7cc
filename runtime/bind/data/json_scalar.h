/*
 * The lower half of json_encode.c, which all values need. An encoder lives on the C stack of one call; its
 * buffer is a userdata on the Lua stack.
 */
#ifndef DBRUN_BIND_JSON_SCALAR_H
#define DBRUN_BIND_JSON_SCALAR_H

#include "base/buf.h"
#include "bind/base/runtime.h"

/* The place of a value: a list on the C stack, innermost first. */
struct json_place {
    const struct json_place *up;
    const char *key; /* NULL: an element of an array */
    size_t len;
    lua_Integer index;
};

struct json_encoder {
    lua_State *L;
    struct runtime *rt;
    struct buf *out;
    int array_class; /* stack indexes of the two metatables */
    int object_class;
    int row_meta; /* stack indexes for the last row: its metatable, its column names */
    int row_names;
    int indent; /* 0 = on one line */
    bool sort_keys;
    bool nulls; /* missing columns of a row are written as null */
    int depth;
};

/* Pushes an empty buffer. */
struct buf *json_push_buf(lua_State *L);
/* Raises the error for a value at this place without a JSON form. */
int json_refuse(struct json_encoder *e, const struct json_place *at, const char *what, const char *hint);
/* Adds text unchanged. */
void json_add(struct json_encoder *e, const char *text, size_t len);
/* With an indent: adds a line end, and the blanks of the next line. */
void json_newline(struct json_encoder *e);
void json_add_string(struct json_encoder *e, const struct json_place *at, const char *text, size_t len);
void json_add_float(struct json_encoder *e, const struct json_place *at, double x);
void json_add_integer(struct json_encoder *e, lua_Integer n);

#endif
