/*
 * Which folder is the project's: the nearest one from the current folder upwards that holds .dbrun/, .env or
 * scripts/migrations/. What is in a project is run, and its .env says where a password goes, so a folder
 * above is taken only when nobody else can have put it there.
 */
#ifndef DBRUN_BASE_PROJECT_H
#define DBRUN_BASE_PROJECT_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

enum project_passed { PROJECT_NONE_PASSED, PROJECT_OF_OTHERS, PROJECT_OPEN_TO_ALL };

struct project {
    char folder[PATH_MAX];    /* absolute; empty: the current folder is the project, or there is none above */
    char passed_by[PATH_MAX]; /* the nearest folder with a project, where it may not be taken */
    enum project_passed reason; /* why not */
};

/* Looks from the current folder up to a folder with .git, $HOME or the border of the file system, each of
 * which may be the project itself. A folder that another user owns, or that all may write, ends the search.
 * The current folder counts whoever owns it: the user went there. Root takes, under sudo, what belongs to the
 * caller, too. */
void project_find(struct project *p);

/* May everybody write to the current folder, and does `name` in it, which is there, belong to somebody else
 * than this user and root? Then somebody has left it for those who come by, as in /tmp. */
bool project_is_strange(const char *name, uid_t *owner);

#endif
