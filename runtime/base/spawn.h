/*
 * Starting a child process: fork, set it up, exec.
 *
 * libuv's uv_spawn is not used: it passes every descriptor without close-on-exec to the child (including
 * files that a script opened with io.open), keeps ignored signals ignored and cannot request a signal on the
 * parent's death. The child here gets only descriptors 0, 1 and 2.
 *
 * Who owns what: the caller owns the pid (it must wait for it) and the pipe ends in `struct spawned`.
 */
#ifndef DBRUN_BASE_SPAWN_H
#define DBRUN_BASE_SPAWN_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum spawn_io {
    SPAWN_INHERIT,
    SPAWN_NULL,
    SPAWN_PIPE,
    SPAWN_FILE,   /* stdin: read from it; the others: written from its beginning, created when missing */
    SPAWN_APPEND, /* not stdin: appended to, created when missing */
    SPAWN_STDOUT, /* stderr only: the same as stdout */
};

struct spawn {
    char *const *argv; /* argv[0] is searched in PATH when it has no slash */
    char *const *envp; /* NULL = the environment of this process */
    const char *cwd;   /* NULL = stay; entered with the rights of the new user */
    enum spawn_io io[3];
    const char *path[3]; /* for SPAWN_FILE and SPAWN_APPEND; opened by this process; with set_ids, never
                            through a link */
    bool new_session;    /* setsid: the terminal and its signals cannot reach it */
    int pdeathsig;       /* sent to the child when this process dies; 0 = none */
    bool set_ids;
    uid_t uid;
    gid_t gid;
    const gid_t *groups; /* supplementary groups, with set_ids */
    size_t ngroups;
};

struct spawned {
    pid_t pid;
    int pipe[3]; /* our ends, non-blocking and close-on-exec; -1 where there is no pipe */
};

/* False: nothing was started, `e` names the program and the step that failed. */
bool spawn_start(const struct spawn *s, struct spawned *out, struct error *e);

/* Replaces this process by the program (stdio is inherited, `io` is ignored). Returns only on failure. */
void spawn_exec(const struct spawn *s, struct error *e);

#endif
