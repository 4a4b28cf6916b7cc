/*
 * What a connection does for longer than a statement, in the trace (--trace): its transaction, and its work:
 * a COPY or a loop over rows. Without a trace a link has none of this.
 */
#ifndef DBRUN_BIND_PG_TRACED_H
#define DBRUN_BIND_PG_TRACED_H

#include "bind/pg/link.h"
#include "task/traced.h"

struct pg_traced {
    struct trace_span transaction;
    const struct trace_text *transaction_text;
    uint32_t transaction_task;
    struct trace_span work;
    const struct trace_text *work_text;
    uint32_t work_task;
    enum trace_cat work_cat;
    uint64_t rows;
    uint64_t waited; /* ns that the task has waited for the server */
    uint64_t parked; /* when it began to; 0: it does not */
};

/* A new link. */
void pg_traced_new(struct pg_link *link);
/* The link goes back to its pool, or is freed: what has begun on it ends. */
void pg_traced_over(struct pg_link *link);
void pg_traced_free(struct pg_link *link);

/* The event of a statement of the script's line that runs on L. */
struct trace_event pg_traced_event(lua_State *L, struct runtime *rt, enum trace_cat cat,
                                   struct script_place *place);
/* Says why something has failed. */
void pg_traced_failed(struct trace_event *event, const struct error *e);
/* The rows that came, or that the command counted. */
void pg_traced_rows(struct trace_event *event, const PGresult *result);
/* A statement that began at `start`, which `event` tells, has ended: perhaps it has begun or ended a
 * transaction. */
void pg_traced_settled(struct pg_link *link, uint64_t start, const struct trace_event *event,
                       const PGresult *result);

/* COPY or a loop over rows begins, and ends; `e`: it has failed. */
void pg_traced_work(lua_State *L, struct pg_link *link, enum trace_cat cat, const char *name, const char *sql,
                    size_t len);
void pg_traced_work_over(struct pg_link *link, const struct error *e);
/* The work was `n` statements in one round trip, and is over: `sql` n times, or NULL: those of the list at
 * stack index
 * 2. The machine still has their results. */
void pg_traced_batch_over(lua_State *L, struct pg_link *link, const char *sql, size_t n);
/* Its task begins to wait for the server, and goes on. */
void pg_traced_parks(struct pg_link *link);
void pg_traced_goes_on(struct pg_link *link);

#endif
