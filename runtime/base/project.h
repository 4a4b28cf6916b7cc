/*
 * Finds the project's folder: the nearest one from the current folder upwards that holds .dbrun/, .env or
 * scripts/migrations/. Code in a project is run, and its .env decides where a password is sent, so a folder
 * above is used only if no other user can have created these files.
 */
#ifndef DBRUN_BASE_PROJECT_H
#define DBRUN_BASE_PROJECT_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

enum project_passed { PROJECT_NONE_PASSED, PROJECT_OF_OTHERS, PROJECT_OPEN_TO_ALL };

struct project {
    char folder[PATH_MAX]; /* absolute; empty: the current folder is the project, or no folder above is one */
    char passed_by[PATH_MAX];   /* the nearest folder with a project that must not be used */
    enum project_passed reason; /* why it must not be used */
};

/* Searches from the current folder up to a folder with .git, $HOME or the border of the file system, each of
 * which can be the project itself. A folder that another user owns, or that everyone can write, ends the
 * search. The current folder counts whoever owns it, because the user went there. Under sudo, root also
 * accepts folders of the calling user. */
void project_find(struct project *p);

/* True when everyone can write to the current folder, and the existing file `name` in it belongs to another
 * user than this one and root: it may be a trap, as in /tmp. */
bool project_is_strange(const char *name, uid_t *owner);

#endif
