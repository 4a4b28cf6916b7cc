/* The sync engine: waits for a connection, and cancels its statement, without the loop. */
#include "base/deadline.h"
#include "bind/pg/link.h"
#include "io/worker_sync.h"
#include "pg/errors.h"

/* Seconds that a cancelled statement has to end. */
#define SHORTEST_GRACE  0.05
#define INTERRUPT_GRACE 0.5

static const struct io_interrupt *interrupt_of(const struct pg_link *link)
{
    const struct io_interrupt *intr = &link->engine->rt->interrupt;
    return intr->fd >= 0 ? intr : NULL;
}

/* ---- cancelling ---- */

static void cancel_call(void *arg)
{
    char why[256];
    PQcancel(arg, why, sizeof why);
}

static void cancel_drop(void *arg)
{
    PQfreeCancel(arg);
}

/* Discards the replies; false when the statement did not end in time. */
static bool drain(struct pg_link *link, uint64_t deadline)
{
    unsigned want = pg_machine_step(&link->m, 0);
    while (want != PG_DONE) {
        unsigned ready = 0;
        if (mono_now() >= deadline ||
            io_poll(pg_machine_fd(&link->m), want, deadline, NULL, &ready) != IO_READY)
            return false;
        want = pg_machine_step(&link->m, ready);
    }
    return true;
}

/* False when the request was not answered in time. */
static bool send_cancel(struct pg_link *link, uint64_t deadline)
{
    PGcancel *cancel = PQgetCancel(link->m.conn);
    enum io_status sent = IO_ERROR;
    if (cancel)
        sent = worker_call(cancel_call, cancel_drop, cancel, deadline, NULL);
    if (sent != IO_TIMEOUT)
        PQfreeCancel(cancel);
    return sent == IO_READY;
}

void pg_link_cancel_blocking(struct pg_link *link, double grace)
{
    uint64_t deadline = deadline_in(grace);
    pg_machine_discard(&link->m);
    bool ended = false;
    /* A request that overtakes its statement has no effect: another one is then sent. */
    while (!ended && mono_now() < deadline && send_cancel(link, deadline)) {
        uint64_t again = deadline_in(PG_CANCEL_AGAIN);
        ended = drain(link, again < deadline ? again : deadline);
    }
    if (!ended)
        pg_machine_break(&link->m);
}

/* ---- stepping ---- */

bool pg_link_has_unwanted_copy(const struct pg_link *link)
{
    return link->m.unwanted && link->m.state == PG_COPY_OUT && pg_machine_may_cancel(&link->m);
}

/* Seconds to cancel an unexpected COPY: not beyond the statement's deadline. */
static double time_to_cancel(uint64_t deadline)
{
    uint64_t now = mono_now();
    double left = deadline > now ? (double)(deadline - now) / (double)NS_PER_S : 0;
    return left < PG_DRAIN_LIMIT ? left : PG_DRAIN_LIMIT;
}

enum io_status pg_link_step_blocking(struct pg_link *link, unsigned *step, uint64_t deadline)
{
    *step = pg_machine_step(&link->m, 0);
    while (*step != PG_DONE && *step != PG_ROW) {
        if (pg_link_has_unwanted_copy(link)) {
            pg_link_cancel_blocking(link, time_to_cancel(deadline));
            *step = PG_DONE;
            return IO_READY;
        }
        if (deadline != DEADLINE_NEVER && mono_now() >= deadline) /* the socket may always be ready */
            return IO_TIMEOUT;
        unsigned ready = 0;
        enum io_status status = io_poll(pg_machine_fd(&link->m), *step, deadline, interrupt_of(link), &ready);
        if (status != IO_READY)
            return status;
        *step = pg_machine_step(&link->m, ready);
    }
    return IO_READY;
}

enum io_status pg_link_run_blocking(struct pg_link *link, uint64_t deadline)
{
    unsigned step;
    return pg_link_step_blocking(link, &step, deadline);
}

/* ---- giving up ---- */

double pg_link_grace_after(double limit)
{
    double grace = limit / 10;
    if (grace < SHORTEST_GRACE)
        return SHORTEST_GRACE;
    return grace < PG_DRAIN_LIMIT ? grace : PG_DRAIN_LIMIT;
}

void pg_link_cut_short(struct pg_link *link, enum io_status status, double timeout)
{
    struct error *e = &link->m.error;
    double limit = timeout > 0 ? timeout : link->deadline_after;
    pg_link_cancel_blocking(link, status == IO_INTERRUPTED ? INTERRUPT_GRACE : pg_link_grace_after(limit));
    if (status == IO_INTERRUPTED)
        error_set(e, ERROR_CANCELLED, "interrupted");
    else if (timeout > 0)
        pg_error_late(e, "the statement did not end", timeout);
    else
        pg_error_late(e, NULL, link->deadline_after);
    e->outcome = link->m.in_transaction ? OUTCOME_FAILED : OUTCOME_UNKNOWN;
}
