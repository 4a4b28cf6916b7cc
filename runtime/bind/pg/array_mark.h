/*
 * The mark of a list that was an array with lower bounds other than 1, or with several dimensions whose
 * elements are tables: without it the value could not be sent back. The mark is a metatable {__name=, dims=,
 * lower=}, which only such lists get.
 */
#ifndef DBRUN_BIND_PG_ARRAY_MARK_H
#define DBRUN_BIND_PG_ARRAY_MARK_H

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

enum { PG_MOST_DIMENSIONS = 6 };

struct pg_array_mark {
    int dims; /* 0 = not stated */
    int32_t lower[PG_MOST_DIMENSIONS];
    bool has_lower;
};

/* Marks the table on top if it needs a mark. `tables`: its elements may become tables. */
void pg_array_mark_set(lua_State *L, const struct pg_array_mark *mark, bool tables);
/* The mark of the table at `at`; false when it has none. */
bool pg_array_mark_get(lua_State *L, int at, struct pg_array_mark *mark);

#endif
