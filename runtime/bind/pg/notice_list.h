/* Notices of the server for which on_notice has not been called yet (notices.h). */
#ifndef DBRUN_BIND_PG_NOTICE_LIST_H
#define DBRUN_BIND_PG_NOTICE_LIST_H

#include <stddef.h>

struct pg_notice;

struct pg_notices {
    struct pg_notice *first;
    struct pg_notice *last;
    unsigned n;
    size_t bytes;  /* of their texts */
    unsigned lost; /* number of notices dropped because the list was full or memory ran out */
};

#endif
