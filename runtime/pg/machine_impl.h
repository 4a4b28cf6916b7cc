/* Only for the files of the machine. */
#ifndef DBRUN_PG_MACHINE_IMPL_H
#define DBRUN_PG_MACHINE_IMPL_H

#include "pg/effect.h"
#include "pg/machine.h"

#include <assert.h>

/* ---- machine.c ---- */

/* Adds a group to the queue. */
void pg_machine_push(struct pg_machine *m, size_t statements, void *owner);
/* Removes the head and returns its owner; the next group becomes the head. */
void *pg_machine_pop(struct pg_machine *m);
/* Sets m->error when libpq could not send. With `half`, a part of a pipeline was queued and cannot be
 * withdrawn: the connection breaks. Returns false, for the caller to return. */
bool pg_machine_not_sent(struct pg_machine *m, bool half);
/* Enters libpq's pipeline mode, and clears the single-row mode of the previous statement. */
bool pg_machine_enter_pipeline(struct pg_machine *m);

/* ---- machine_epoch.c ---- */

/* True when the entry's prepared statement is young enough and no known change affects its meaning. */
bool pg_machine_is_current(const struct pg_machine *m, const struct pg_cached *e);
/* Raises the epochs for what the statements of an ended group have changed. */
void pg_machine_raise_epochs(struct pg_machine *m);
void pg_machine_begin_epochs(struct pg_machine *m);

/* ---- machine_guard.c ---- */

/* Notes whether the scanner can read a text. */
void pg_machine_guard_read(struct pg_machine *m, const char *sql);
/* Notes a COMMIT of a failed transaction: the server answers it with ROLLBACK and no error. */
void pg_machine_guard_commit(struct pg_machine *m, const char *sql);
/* At the sync of a group that is alone: sets m->failure for such a COMMIT. */
void pg_machine_guard_commit_settle(struct pg_machine *m);
/* Notes the command tag of a result. */
void pg_machine_guard_tag(struct pg_machine *m, const char *tag);
/* At the sync of a group that is alone: sets m->failure if the group has ended a guarded transaction. */
void pg_machine_guard_settle(struct pg_machine *m);

/* ---- machine_mend.c ---- */

/* Notes whether a statement names a setting on which values depend. Call it once for each statement of a
 * group, when m->effect is known. `sql` NULL: the previous statement, with other parameters. */
void pg_machine_note_format(struct pg_machine *m, const char *sql, size_t len, const struct pg_params *p);
/* True when the group was a prepared SELECT, INSERT or the like without set_config, which hardly ever changes
 * a setting. */
static inline bool pg_machine_was_usual(const struct pg_machine *m)
{
    return m->effect == PG_HAS_PLAN && !m->in_doubt && !m->mending && m->entry && m->entry->prepared &&
           !m->preparing;
}
/* Called when any other group that was alone has ended: restores the settings. Returns what step returns. */
unsigned pg_machine_mend(struct pg_machine *m);
/* Called when the server's text is no longer UTF-8: the head has failed, and the connection must break. */
void pg_machine_refuse_encoding(struct pg_machine *m);

/* ---- machine_entry.c ---- */

/* How a text affects prepared statements: enum pg_effect. */
unsigned pg_machine_effect_of(const struct pg_machine *m, const char *sql, size_t len);
/* The cache's entry for this statement; NULL: run it without the cache. `evicted` gets the name of a prepared
 * statement to close, or "". In a transaction a name is closed only when there are many: with a pooler that
 * loses or renames prepared statements, closing is an error. */
struct pg_cached *pg_machine_entry_for(struct pg_machine *m, const char *sql, size_t len,
                                       const struct pg_params *p, char evicted[40]);
/* Notes that the server parses the statement now. */
void pg_machine_note_parse(const struct pg_machine *m, struct pg_cached *e, const struct pg_params *p);

/* ---- machine_send.c ---- */

/* Call it before a group that is alone: clears what belongs to the previous group. False: nothing can be sent
 * now, and m->error says why. */
bool pg_machine_begin(struct pg_machine *m);
/* In a pipeline, before the statements: closes a prepared statement of the server. False: libpq refuses. */
bool pg_machine_close_name(struct pg_machine *m, const char *name);
/* Decides whether the result will be large, when the first part of the answer has come and was not read
 * yet. */
void pg_machine_decide(struct pg_machine *m);

/* ---- machine_batch.c ---- */

/* At the sync of a batch, or when its connection is abandoned: notes which of its PREPAREs have worked. */
void pg_machine_batch_settle(struct pg_machine *m);

/* ---- machine_end.c ---- */

/* The next result of the server. All results are read through this function. */
PGresult *pg_machine_next_result(struct pg_machine *m);
/* Discards the rows of a COPY TO STDOUT; true at its end. */
bool pg_machine_throw_copy_away(struct pg_machine *m);
/* Removes the head of the queue and passes on its result or error. */
void pg_machine_settle(struct pg_machine *m);
/* Takes over `words`, the reason. Settles every group in flight: the head with its error if it had failed,
 * else with the reason and an unknown outcome. */
void pg_machine_break_with(struct pg_machine *m, struct error *words);

/* The one place that changes m->state; aborts in a debug build when the chart has no such arrow. */
static inline void pg_machine_set_state(struct pg_machine *m, enum pg_state to)
{
#ifndef NDEBUG
    enum { ANY = 1 << PG_BROKEN | 1 << PG_CLOSED };
    static const unsigned arrows[] = {
        [PG_CLOSED] = 1 << PG_CLOSED,
        [PG_IDLE] = 1 << PG_PLAIN | 1 << PG_PIPE | ANY,
        [PG_PLAIN] = 1 << PG_IDLE | 1 << PG_COPY_IN | 1 << PG_COPY_OUT | ANY,
        [PG_COPY_IN] = 1 << PG_PLAIN | ANY,
        [PG_COPY_OUT] = 1 << PG_PLAIN | ANY,
        [PG_PIPE] = 1 << PG_IDLE | ANY,
        [PG_BROKEN] = ANY,
    };
    assert(arrows[m->state] & 1u << to);
    assert(to != PG_IDLE || m->owed == 0);
    assert((to != PG_COPY_IN && to != PG_COPY_OUT) || m->owed == 1);
#endif
    m->state = to;
}

/* Clears everything that belongs to the previous statement. */
static inline void pg_machine_renew(struct pg_machine *m)
{
    PQclear(m->result);
    m->result = NULL;
    if (m->batch.active)
        pg_machine_batch_clear(m);
    error_clear(&m->error);
    m->entry = NULL;
    m->effect = 0;
    m->may_commit = 0;
    m->ahead = 0;
    m->preparing = m->flushing = m->discard = m->streaming = m->forgotten = m->shared = false;
    m->refused = m->simple = m->copy = m->unwanted = m->separated = m->in_transaction = m->guessed = false;
    m->undecided = m->in_failed = m->hopeless = m->more = false;
    m->committed = m->rolled_back = m->unread = false;
    m->mending = m->unmended = false;
}

static inline struct pg_group *pg_machine_head(struct pg_machine *m)
{
    return &m->group[m->head];
}

#endif
