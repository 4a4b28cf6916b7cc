#include "base/project.h"
#include "base/number.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* True when this user, or for root the user who called sudo, is the owner. */
static bool is_own(uid_t owner)
{
    uid_t self = geteuid();
    const char *caller = self == 0 ? getenv("SUDO_UID") : NULL;
    if (owner == self)
        return true;
    int64_t uid;
    return caller != NULL && number_parse_int(caller, &uid) && uid >= 0 && (uint64_t)uid == owner;
}

/* stat(folder/name); false when it does not exist. */
static bool look(const char *folder, const char *name, struct stat *st)
{
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return stat(path, st) == 0;
}

static bool has_project(const char *folder)
{
    struct stat st;
    return (look(folder, ".dbrun", &st) && S_ISDIR(st.st_mode)) ||
           (look(folder, ".env", &st) && !S_ISDIR(st.st_mode)) || /* a folder: Python's environment */
           (look(folder, "scripts/migrations", &st) && S_ISDIR(st.st_mode));
}

/* True when the search ends at this folder. */
static bool is_border(const char *folder, const struct stat *here)
{
    const char *home = getenv("HOME");
    struct stat st;
    if (look(folder, ".git", &st))
        return true;
    if (home != NULL && *home == '/' && stat(home, &st) == 0 && st.st_dev == here->st_dev &&
        st.st_ino == here->st_ino)
        return true;
    return !look(folder, "..", &st) || st.st_dev != here->st_dev;
}

void project_find(struct project *p)
{
    char folder[PATH_MAX];
    struct stat here;
    p->folder[0] = p->passed_by[0] = '\0';
    p->reason = PROJECT_NONE_PASSED;
    if (getcwd(folder, sizeof folder) == NULL || folder[0] != '/' || has_project(folder))
        return;
    while (folder[1] != '\0' && stat(folder, &here) == 0 && !is_border(folder, &here)) {
        char *slash = strrchr(folder, '/');
        slash[slash == folder ? 1 : 0] = '\0';
        if (!has_project(folder))
            continue;
        if (stat(folder, &here) != 0)
            return;
        if (!is_own(here.st_uid))
            p->reason = PROJECT_OF_OTHERS;
        else if (here.st_mode & S_IWOTH)
            p->reason = PROJECT_OPEN_TO_ALL;
        strcpy(p->reason == PROJECT_NONE_PASSED ? p->folder : p->passed_by, folder);
        return;
    }
}

bool project_is_strange(const char *name, uid_t *owner)
{
    struct stat here;
    struct stat st;
    if (stat(".", &here) != 0 || !(here.st_mode & S_IWOTH) || lstat(name, &st) != 0)
        return false;
    *owner = st.st_uid;
    return st.st_uid != 0 && !is_own(st.st_uid);
}
