/* Notices of the server that on_notice has not been called for yet (notices.h). */
#ifndef DBRUN_BIND_PG_NOTICE_LIST_H
#define DBRUN_BIND_PG_NOTICE_LIST_H

struct pg_notice;

struct pg_notices {
    struct pg_notice *first;
    struct pg_notice *last;
    unsigned n;
    unsigned lost; /* number of notices dropped, because the list or the memory was full */
};

#endif
