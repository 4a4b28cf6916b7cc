#include "base/remove.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- what must stay ---- */

static bool is_same(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* True when `st` is what is at this path, or a folder above it. Compares files, not names: so a path through
 * links or a second mount is recognised. `look`: stat or lstat. Cuts the path. */
static bool is_above(const struct stat *st, char *path, int (*look)(const char *, struct stat *))
{
    struct stat at;
    for (;;) {
        if (look(path, &at) == 0 && is_same(st, &at))
            return true;
        char *slash = strrchr(path, '/');
        if (!slash || strcmp(path, "/") == 0)
            return false;
        slash[slash == path ? 1 : 0] = '\0';
    }
}

/* Looks along the path as it is written, whose links must stay too, and along the real one. */
static bool holds(const struct stat *st, const char *kept)
{
    char path[PATH_MAX];
    if (strlen(kept) < sizeof path && is_above(st, strcpy(path, kept), lstat))
        return true;
    return realpath(kept, path) && is_above(st, path, stat);
}

static size_t first_held(const struct stat *st, const char *const *kept, size_t n)
{
    size_t i = 0;
    while (i < n && !holds(st, kept[i]))
        i++;
    return i;
}

/* ---- removing ---- */

/* Removes what the folder `fd` (consumed) contains. Returns 0 or errno. Another program may remove the same
 * things meanwhile: a missing file is never an error. */
static int remove_contents(int fd, int depth)
{
    if (depth > 500) {
        close(fd);
        return ELOOP;
    }
    DIR *dir = fdopendir(fd);
    if (!dir) {
        int err = errno;
        close(fd);
        return err;
    }
    int err = 0;
    while (!err) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry) {
            err = errno == ENOENT ? 0 : errno;
            break;
        }
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            continue;
        if (unlinkat(dirfd(dir), name, 0) == 0 || errno == ENOENT)
            continue;
        /* Never follows a link: O_NOFOLLOW. */
        int below = errno == EISDIR || errno == EPERM
                        ? openat(dirfd(dir), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
                        : -1;
        if (below < 0) {
            err = errno == ENOENT ? 0 : errno;
            continue;
        }
        err = remove_contents(below, depth + 1);
        if (!err && unlinkat(dirfd(dir), name, AT_REMOVEDIR) < 0 && errno != ENOENT)
            err = errno;
    }
    closedir(dir);
    return err;
}

/* The folder that was checked is the one that is emptied, whatever takes its name meanwhile. */
static int remove_folder(const char *path, const char *const *kept, size_t n, size_t *hit)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno;
    int err = fstat(fd, &st) == 0 ? 0 : errno;
    *hit = err ? n : first_held(&st, kept, n);
    if (err || *hit < n) {
        close(fd);
        return err;
    }
    err = remove_contents(fd, 0);
    return !err && rmdir(path) < 0 ? errno : err;
}

/* Copies the path without slashes at its end, behind which a link would be followed. */
static bool copy_path(const char *path, char out[PATH_MAX])
{
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/')
        len--;
    if (len >= PATH_MAX)
        return false;
    memcpy(out, path, len);
    out[len] = '\0';
    return true;
}

static bool ends_in_dots(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

int remove_tree(const char *path, const char *const *kept, size_t n, size_t *hit)
{
    char own[PATH_MAX];
    struct stat st;
    *hit = n;
    if (!copy_path(path, own))
        return ENAMETOOLONG;
    if (lstat(own, &st) < 0)
        return errno == ENOENT ? 0 : errno;
    *hit = first_held(&st, kept, n);
    if (*hit < n)
        return 0;
    if (ends_in_dots(own))
        return EINVAL;
    if (!S_ISDIR(st.st_mode) && !S_ISLNK(st.st_mode) && own[strlen(own)] != path[strlen(own)])
        return ENOTDIR;
    if (!S_ISDIR(st.st_mode))
        return unlink(own) == 0 || errno == ENOENT ? 0 : errno;
    int err = remove_folder(own, kept, n, hit);
    return err == ENOENT ? 0 : err;
}
