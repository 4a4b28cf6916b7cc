/* Sends several statements in one group, on a connection on which nothing else is in flight. */
#include "pg/machine_impl.h"

#include <string.h>

bool pg_machine_batch_begin(struct pg_machine *m, bool count_only)
{
    if (!pg_machine_begin(m))
        return false;
    if (!pg_machine_enter_pipeline(m))
        return pg_machine_not_sent(m, false);
    m->batch.active = true;
    m->batch.count_only = count_only;
    pg_machine_set_state(m, PG_PIPE); /* now, so that a batch that is never ended is not taken for idle */
    pg_machine_push(m, 0, NULL);
    return true;
}

/* The unnamed statement is parsed when an SQL is given, and stays until the next SQL. */
bool pg_machine_batch_add(struct pg_machine *m, const char *sql, const struct pg_params *p)
{
    if ((sql && !PQsendPrepare(m->conn, "", sql, p->n, p->types)) ||
        !PQsendQueryPrepared(m->conn, "", p->n, p->values, p->lengths, p->formats, 0))
        return pg_machine_not_sent(m, true);
    if (sql) {
        m->effect |= pg_machine_effect_of(m, sql, strlen(sql));
        pg_machine_guard_read(m, sql);
    }
    pg_machine_note_format(m, sql, sql ? strlen(sql) : 0, p);
    pg_machine_head(m)->statements++;
    return true;
}

bool pg_machine_batch_describe(struct pg_machine *m, const char *sql, const struct pg_params *p)
{
    m->batch.describing = true;
    if (!PQsendPrepare(m->conn, "", sql, p->n, p->types) || !PQsendDescribePrepared(m->conn, ""))
        return pg_machine_not_sent(m, true);
    pg_machine_head(m)->statements++;
    return true;
}

bool pg_machine_batch_end(struct pg_machine *m)
{
    if (!PQpipelineSync(m->conn))
        return pg_machine_not_sent(m, true);
    m->flushing = PQflush(m->conn) != 0;
    return true;
}
