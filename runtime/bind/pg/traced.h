/*
 * Records in the trace (--trace) what lasts longer than a statement on a connection: its transaction, and its
 * work (a COPY or a loop over rows). Without a trace a link has no struct pg_traced.
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
    uint64_t parked; /* when its present wait began; 0: it does not wait */
};

/* Call it for a new link. */
void pg_traced_new(struct pg_link *link);
/* Call it when the link returns to its pool or is freed: ends what has begun on it. */
void pg_traced_over(struct pg_link *link);
void pg_traced_free(struct pg_link *link);

/* Makes the event of a statement, with the script line that runs on L. */
struct trace_event pg_traced_event(lua_State *L, struct runtime *rt, enum trace_cat cat,
                                   struct script_place *place);
/* Adds the error to an event. */
void pg_traced_failed(struct trace_event *event, const struct error *e);
/* Adds the number of rows that came, or that the command counted. */
void pg_traced_rows(struct trace_event *event, const PGresult *result);
/* Call it when the statement of `event`, begun at `start`, has ended: records whether it has begun or ended a
 * transaction. */
void pg_traced_settled(struct pg_link *link, uint64_t start, const struct trace_event *event,
                       const PGresult *result);

/* Begin and end of a COPY or a loop over rows; `e`: it has failed. */
void pg_traced_work(lua_State *L, struct pg_link *link, enum trace_cat cat, const char *name, const char *sql,
                    size_t len);
void pg_traced_work_over(struct pg_link *link, const struct error *e);
/* Ends the work of `n` statements in one round trip: `sql` n times, or with NULL the list at stack index 2.
 * The machine still has their results. */
void pg_traced_batch_over(lua_State *L, struct pg_link *link, const char *sql, size_t n);
/* The task begins to wait for the server; the task continues. */
void pg_traced_parks(struct pg_link *link);
void pg_traced_goes_on(struct pg_link *link);

#endif
