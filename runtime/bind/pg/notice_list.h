/* Notices of a server that wait to be told to the script (notices.h). */
#ifndef DBRUN_BIND_PG_NOTICE_LIST_H
#define DBRUN_BIND_PG_NOTICE_LIST_H

struct pg_notice;

struct pg_notices {
    struct pg_notice *first;
    struct pg_notice *last;
    unsigned n;
    unsigned lost; /* more than the list takes */
};

#endif
