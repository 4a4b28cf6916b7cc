#include "bind/pg/conninfo.h"

#include <stdlib.h>
#include <string.h>

void pg_conninfo_ref(struct pg_conninfo *info)
{
    __atomic_add_fetch(&info->refs, 1, __ATOMIC_RELAXED);
}

void pg_conninfo_unref(struct pg_conninfo *info)
{
    if (!info || __atomic_sub_fetch(&info->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    for (size_t i = 0; info->keywords && info->keywords[i]; i++) {
        free(info->keywords[i]);
        if (info->values[i])
            explicit_bzero(info->values[i], strlen(info->values[i]));
        free(info->values[i]);
    }
    free(info->keywords);
    free(info->values);
    free(info->asked[0]);
    free(info->asked[1]);
    free(info->target);
    free(info->advice);
    free(info);
}
