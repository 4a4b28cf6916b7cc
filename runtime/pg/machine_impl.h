/* Shared by the files of the machine only. */
#ifndef DBRUN_PG_MACHINE_IMPL_H
#define DBRUN_PG_MACHINE_IMPL_H

#include "pg/machine.h"

#include <assert.h>

/* ---- machine.c ---- */

/* Has the chart this arrow? */
bool pg_machine_is_arrow(const struct pg_machine *m, enum pg_state to);
/* A group enters the queue. */
void pg_machine_push(struct pg_machine *m, size_t statements, void *owner);
/* What is known about the head of the queue begins anew. */
void pg_machine_new_head(struct pg_machine *m);
/* What libpq could not send: half a pipeline cannot be taken back, so with `half` the connection is broken.
 * False, for the caller to return. */
bool pg_machine_not_sent(struct pg_machine *m, bool half);
/* Into libpq's pipeline mode; nothing of the statement before carries over. */
bool pg_machine_enter_pipeline(struct pg_machine *m);

/* The one place that changes m->state; aborts in a debug build when the chart has no such arrow. */
static inline void pg_machine_set_state(struct pg_machine *m, enum pg_state to)
{
    assert(pg_machine_is_arrow(m, to));
    m->state = to;
}

static inline struct pg_group *pg_machine_head(struct pg_machine *m)
{
    return &m->group[m->head];
}

#endif
