/*
 * Shared by the files of the link: link.c (life, waiting, what the socket says), link_cancel.c and
 * link_upkeep.c (what the pool asks for). Nobody else includes this.
 */
#ifndef DBRUN_BIND_PG_LINK_H
#define DBRUN_BIND_PG_LINK_H

#include "bind/pg/impl.h"

/* ---- link.c ---- */

/* The program's end waits a moment for what goes on in the background. */
void pg_link_set_background(struct pg_link *link, bool on);
/* Steps to the end of the statement, blocking. */
enum drive_status pg_link_run_blocking(struct pg_link *link, uint64_t deadline);

/* ---- link_cancel.c ---- */

/* The statement has ended, or the request that cancels it: when both are over, whoever waits is woken. The
 * link may be gone afterwards. */
void pg_link_settle(struct pg_link *link);
/* The link is going; its request ends by itself. */
void pg_link_forget_cancel(struct pg_link *link);
/* Rows that were to be read to their end do not end. */
void pg_link_lose_patience(struct pg_link *link);

/* ---- link_upkeep.c: each but the first may end the link ---- */

/* A script that ran LISTEN on a pooled connection: libpq would keep what nobody reads. Parses what came. */
void pg_link_drop_notifications(struct pg_link *link);
void pg_link_finish_ping(struct pg_link *link, bool alive);
void pg_link_finish_reset(struct pg_link *link, bool ok);
void pg_link_reset_begin(struct pg_link *link);
/* One statement of the reset has ended. */
void pg_link_reset_next(struct pg_link *link);

#endif
