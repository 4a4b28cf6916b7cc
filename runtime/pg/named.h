/*
 * `:name` parameters: finds them in SQL and rewrites them as $1, $2, ... Ignores strings, quoted identifiers
 * and comments (scan.h), casts (::), assignments (:=) and array slices ([1:2], [a:b]).
 */
#ifndef DBRUN_PG_NAMED_H
#define DBRUN_PG_NAMED_H

#include "base/buf.h"

#include <stddef.h>

struct pg_name {
    size_t at; /* offset in the SQL, of the first character of the name */
    size_t len;
};

struct pg_names {
    struct pg_name *list; /* each name once, in the order of the numbers */
    size_t n;
    size_t cap;
    bool numbered; /* the SQL also has parameters written as $n */
};

/* True when SQL that was rewritten with `n` names has the same parameters with standard_conforming_strings
 * off, where a backslash escapes in '...' too. */
bool pg_named_is_sure(const char *sql, size_t len, int n);

/* Appends the rewritten SQL to `out` and the names to `names` (free the list). False when out of memory. */
bool pg_named_rewrite(const char *sql, size_t len, struct buf *out, struct pg_names *names);

#endif
