/*
 * Work that may block in ways nobody can bound (name resolution, SCRAM, PQcancel): each job has a
 * thread of its own, so a job that is stuck delays no other, and neither the loop nor the end of the
 * program waits for it. (libuv's pool has four threads for everybody and joins them at exit.)
 */
#ifndef DBRUN_IO_WORKER_H
#define DBRUN_IO_WORKER_H

#include <stdbool.h>
#include <uv.h>

struct workers;

struct workers *workers_new(uv_loop_t *loop);
/* Jobs still running are left to end by themselves: their `drop` runs instead of `done`. */
void workers_close(struct workers *w);

struct job {
    void (*work)(struct job *j); /* on the thread */
    void (*done)(struct job *j); /* on the loop; owns the job again */
    void (*drop)(struct job *j); /* nobody waits any more; may run on the thread; frees the job */
    struct job *next;
    struct workers *workers;
};
/* False when no thread can be started (errno says why); then no callback comes. */
bool workers_run(struct workers *w, struct job *j);

#endif
