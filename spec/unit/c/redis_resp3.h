/* The RESP3 types that the hiredis of the build can read. */
#ifndef DBRUN_SPEC_REDIS_RESP3_H
#define DBRUN_SPEC_REDIS_RESP3_H

#include <hiredis/hiredis.h>

enum {
    RESP3 = HIREDIS_MAJOR >= 1,
    BIG_NUMBERS = HIREDIS_MAJOR > 1 || (HIREDIS_MAJOR == 1 && HIREDIS_MINOR >= 1),
    ATTRIBUTES = HIREDIS_MAJOR > 1 || (HIREDIS_MAJOR == 1 && HIREDIS_MINOR >= 3),
};

#endif
