/*
 * Jobs that may block without limit (name resolution, SCRAM, PQcancel). Each runs on its own thread, so a
 * stuck job delays no other, and neither the loop nor the end of the program waits for it. (libuv's pool has
 * four threads for all work and joins them at exit.)
 */
#ifndef DBRUN_IO_WORKER_H
#define DBRUN_IO_WORKER_H

#include <stdbool.h>
#include <uv.h>

struct workers;

struct workers *workers_new(uv_loop_t *loop);
/* Does not wait for running jobs: when they end, their `drop` is called instead of `done`. */
void workers_close(struct workers *w);

struct job {
    void (*work)(struct job *j); /* on the thread */
    void (*done)(struct job *j); /* on the loop; the caller owns the job again */
    /* Called instead of `done` after workers_close, perhaps on the thread; frees the job. */
    void (*drop)(struct job *j);
    struct job *next;
    struct workers *workers;
};
/* False when no thread can be started (errno says why); then no callback comes. */
bool workers_run(struct workers *w, struct job *j);

#endif
