#include "bind/os/fs.h"

#include "base/project.h"
#include "base/remove.h"
#include "base/write.h"
#include "bind/base/error.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define DIR_CLASS  "dbrun.folder"
#define LOCK_CLASS "dbrun.file_lock"

static int fail(lua_State *L, const char *what, const char *path)
{
    int err = errno;
    struct error e = {0};
    error_set(&e, ERROR_IO, "cannot %s '%s': %s", what, path, strerror(err));
    error_set_field(&e, ERROR_HINT, error_limit_hint(err));
    return bind_error_raise(L, bind_runtime(L), &e);
}

/* Raises for a path with a NUL, which would name another file. */
static const char *check_path(lua_State *L, int arg)
{
    size_t len;
    const char *path = luaL_checklstring(L, arg, &len);
    luaL_argcheck(L, len > 0, arg, "the path is empty");
    luaL_argcheck(L, strlen(path) == len, arg, "the path contains a NUL byte");
    return path;
}

static mode_t opt_mode(lua_State *L, int arg, mode_t otherwise)
{
    return (mode_t)luaL_optinteger(L, arg, (lua_Integer)otherwise) & 07777;
}

/* ---- looking at files and folders ---- */

static const char *kind_of(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG:
        return "file";
    case S_IFDIR:
        return "folder";
    case S_IFLNK:
        return "link";
    case S_IFSOCK:
        return "socket";
    case S_IFIFO:
        return "fifo";
    default:
        return "device";
    }
}

static void push_field(lua_State *L, const char *name, lua_Integer n)
{
    lua_pushinteger(L, n);
    lua_setfield(L, -2, name);
}

/* stat(path [, no_follow]) -> table, or nil when there is nothing */
static int fs_stat(lua_State *L)
{
    const char *path = check_path(L, 1);
    struct stat st;
    int rc = lua_toboolean(L, 2) ? lstat(path, &st) : stat(path, &st);
    if (rc < 0 && (errno == ENOENT || errno == ENOTDIR))
        return 0;
    if (rc < 0)
        return fail(L, "look at", path);
    lua_createtable(L, 0, 9);
    lua_pushstring(L, kind_of(st.st_mode));
    lua_setfield(L, -2, "kind");
    push_field(L, "size", (lua_Integer)st.st_size);
    push_field(L, "mode", (lua_Integer)(st.st_mode & 07777));
    push_field(L, "uid", (lua_Integer)st.st_uid);
    push_field(L, "gid", (lua_Integer)st.st_gid);
    push_field(L, "dev", (lua_Integer)st.st_dev);
    push_field(L, "ino", (lua_Integer)st.st_ino);
    lua_pushnumber(L, (lua_Number)st.st_mtim.tv_sec + (lua_Number)st.st_mtim.tv_nsec / 1e9);
    lua_setfield(L, -2, "mtime");
    return 1;
}

/* access(path, "r" | "w" | "x") -> boolean, for the effective user */
static int fs_access(lua_State *L)
{
    static const char *const names[] = {"r", "w", "x", NULL};
    static const int modes[] = {R_OK, W_OK, X_OK};
    const char *path = check_path(L, 1);
    int mode = modes[luaL_checkoption(L, 2, "r", names)];
    lua_pushboolean(L, faccessat(AT_FDCWD, path, mode, AT_EACCESS) == 0);
    return 1;
}

static int dir__gc(lua_State *L)
{
    DIR **dir = luaL_checkudata(L, 1, DIR_CLASS);
    if (*dir)
        closedir(*dir);
    *dir = NULL;
    return 0;
}

/* list(folder) -> names, in no order */
static int fs_list(lua_State *L)
{
    const char *path = check_path(L, 1);
    DIR **dir = lua_newuserdatauv(L, sizeof(*dir), 0);
    *dir = NULL;
    luaL_setmetatable(L, DIR_CLASS);
    *dir = opendir(path);
    if (!*dir)
        return fail(L, "list the folder", path);
    lua_newtable(L);
    lua_Integer n = 0;
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(*dir);
        if (!entry)
            break;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        lua_pushstring(L, entry->d_name);
        lua_rawseti(L, -2, ++n);
    }
    int err = errno;
    closedir(*dir);
    *dir = NULL;
    errno = err;
    return err ? fail(L, "list the folder", path) : 1;
}

static int push_malloced(lua_State *L, char *text)
{
    /* PATH_MAX bytes fit a buffer on the stack, so nothing leaks when the push raises "not enough memory". */
    char copy[PATH_MAX + 1];
    size_t len = strnlen(text, PATH_MAX);
    memcpy(copy, text, len);
    free(text);
    lua_pushlstring(L, copy, len);
    return 1;
}

static int fs_realpath(lua_State *L)
{
    const char *path = check_path(L, 1);
    char *real = realpath(path, NULL);
    return real ? push_malloced(L, real) : fail(L, "resolve", path);
}

static int fs_readlink(lua_State *L)
{
    const char *path = check_path(L, 1);
    char target[PATH_MAX];
    ssize_t n = readlink(path, target, sizeof(target));
    if (n < 0)
        return fail(L, "read the link", path);
    lua_pushlstring(L, target, (size_t)n);
    return 1;
}

static int fs_cwd(lua_State *L)
{
    char *cwd = getcwd(NULL, 0);
    return cwd ? push_malloced(L, cwd) : fail(L, "find the current folder", ".");
}

/* free_space(path) -> bytes that this user can still write */
static int fs_free_space(lua_State *L)
{
    const char *path = check_path(L, 1);
    struct statvfs vfs;
    if (statvfs(path, &vfs) < 0)
        return fail(L, "look at the file system of", path);
    lua_pushinteger(L, (lua_Integer)vfs.f_bavail * (lua_Integer)vfs.f_frsize);
    return 1;
}

/* ---- changing files and folders ---- */

/* mkdir(path [, mode]) -> false when it already exists. The mode is set regardless of the umask. */
static int fs_mkdir(lua_State *L)
{
    const char *path = check_path(L, 1);
    int rc = mkdir(path, opt_mode(L, 2, 0777));
    if (rc < 0 && errno != EEXIST)
        return fail(L, "make the folder", path);
    if (rc == 0 && !lua_isnoneornil(L, 2) && chmod(path, opt_mode(L, 2, 0777)) < 0)
        return fail(L, "set the rights of", path);
    lua_pushboolean(L, rc == 0);
    return 1;
}

static int fs_rmdir(lua_State *L)
{
    const char *path = check_path(L, 1);
    if (rmdir(path) < 0 && errno != ENOENT)
        return fail(L, "remove the folder", path);
    return 0;
}

/* rmtree(path, kept): the folder with all below it, or one file; no error when it does not exist. Removes
 * nothing and returns a number when it must not: that of the first of the folders in the list `kept` that is
 * at this path or below it, or 0 when the path ends in "." or "..". */
static int fs_rmtree(lua_State *L)
{
    enum { MOST_KEPT = 8 };
    const char *kept[MOST_KEPT];
    const char *path = check_path(L, 1);
    size_t n = 0, hit;
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 2); /* the texts stay on the stack */
    while (n < MOST_KEPT && lua_rawgeti(L, 2, (lua_Integer)n + 1) == LUA_TSTRING)
        kept[n++] = lua_tostring(L, -1);
    int err = remove_tree(path, kept, n, &hit);
    errno = err;
    if (err && err != EINVAL)
        return fail(L, "remove", path);
    lua_pushinteger(L, err ? 0 : (lua_Integer)hit + 1);
    return err || hit < n ? 1 : 0;
}

/* unlink(path) -> false when it did not exist */
static int fs_unlink(lua_State *L)
{
    const char *path = check_path(L, 1);
    int rc = unlink(path);
    if (rc < 0 && errno != ENOENT)
        return fail(L, "remove", path);
    lua_pushboolean(L, rc == 0);
    return 1;
}

static int fs_rename(lua_State *L)
{
    const char *from = check_path(L, 1);
    const char *to = check_path(L, 2);
    if (rename(from, to) < 0) {
        int err = errno;
        return bind_fail(L, bind_runtime(L), ERROR_IO, "cannot rename '%s' to '%s': %s", from, to,
                         strerror(err));
    }
    return 0;
}

/* chown(path, uid, gid); does not follow links */
static int fs_chown(lua_State *L)
{
    const char *path = check_path(L, 1);
    if (lchown(path, (uid_t)luaL_checkinteger(L, 2), (gid_t)luaL_checkinteger(L, 3)) < 0)
        return fail(L, "change the owner of", path);
    return 0;
}

static int fs_chmod(lua_State *L)
{
    const char *path = check_path(L, 1);
    luaL_checkinteger(L, 2);
    if (chmod(path, opt_mode(L, 2, 0)) < 0)
        return fail(L, "set the rights of", path);
    return 0;
}

static int fs_symlink(lua_State *L)
{
    const char *target = check_path(L, 1);
    const char *path = check_path(L, 2);
    if (symlink(target, path) < 0)
        return fail(L, "make the link", path);
    return 0;
}

/* mkdtemp(prefix) -> path of a new folder of mode 0700 */
static int fs_mkdtemp(lua_State *L)
{
    check_path(L, 1);
    size_t len;
    lua_settop(L, 1);
    lua_pushliteral(L, "XXXXXX");
    lua_concat(L, 2);
    const char *pattern = lua_tolstring(L, 1, &len);
    char *path = lua_newuserdatauv(L, len + 1, 0);
    memcpy(path, pattern, len + 1);
    if (!mkdtemp(path))
        return fail(L, "make a temporary folder", pattern);
    lua_pushlstring(L, path, len);
    return 1;
}

/* ---- writing a file ---- */

/* write_new(path, data [, mode [, sync [, shown]]]): creates a file that must not exist; removes it when it
 * cannot be written completely. shown: the name for errors, when the file is renamed later. */
static int fs_write_new(lua_State *L)
{
    const char *path = check_path(L, 1);
    size_t len;
    const char *data = luaL_checklstring(L, 2, &len);
    mode_t mode = opt_mode(L, 3, 0666);
    const char *shown = luaL_optstring(L, 5, path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0)
        return fail(L, "make the file", shown);
    bool ok = lua_isnoneornil(L, 3) || fchmod(fd, mode) == 0;
    ok = ok && write_all(fd, data, len) && (!lua_toboolean(L, 4) || fsync(fd) == 0);
    int err = errno;
    if (close(fd) < 0 && ok) {
        ok = false;
        err = errno;
    }
    if (ok)
        return 0;
    unlink(path);
    errno = err;
    return fail(L, "write", shown);
}

/* ---- locks: flock(2), which the kernel releases when the process dies ---- */

struct lock {
    int fd; /* -1 = released */
};

static int lock__gc(lua_State *L)
{
    struct lock *lock = luaL_checkudata(L, 1, LOCK_CLASS);
    if (lock->fd >= 0)
        close(lock->fd);
    lock->fd = -1;
    return 0;
}

static int lock_release(lua_State *L)
{
    if (!luaL_testudata(L, 1, LOCK_CLASS))
        return bind_fail(L, bind_runtime(L), ERROR_USAGE,
                         "release: must be called with ':' on a lock, as lock:release()");
    return lock__gc(L);
}

/* True when the locked file is still at this path: it may have been removed meanwhile. */
static bool still_there(int fd, const char *path)
{
    struct stat ours, now;
    return fstat(fd, &ours) == 0 && stat(path, &now) == 0 && ours.st_dev == now.st_dev &&
           ours.st_ino == now.st_ino;
}

/* try_lock(path [, mode]) -> lock, or nil when it is already held. Creates a missing file. */
static int fs_try_lock(lua_State *L)
{
    const char *path = check_path(L, 1);
    mode_t mode = opt_mode(L, 2, 0666);
    struct lock *lock = lua_newuserdatauv(L, sizeof(*lock), 0);
    lock->fd = -1;
    luaL_setmetatable(L, LOCK_CLASS);
    for (int tries = 0; tries < 100; tries++) {
        lock->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, mode);
        if (lock->fd < 0)
            return fail(L, "open the lock file", path);
        int rc = flock(lock->fd, LOCK_EX | LOCK_NB);
        int err = errno;
        if (rc == 0 && still_there(lock->fd, path))
            return 1;
        close(lock->fd);
        lock->fd = -1;
        if (rc < 0 && err == EWOULDBLOCK)
            return 0;
        if (rc < 0 && err != EINTR) {
            errno = err;
            return fail(L, "lock", path);
        }
    }
    return 0; /* the file is removed and created again and again: treat it as held */
}

/* limit_hint(errno) -> the hint when it means a system limit, else nil */
static int limit_hint(lua_State *L)
{
    lua_pushstring(L, error_limit_hint((int)luaL_checkinteger(L, 1)));
    return 1;
}

/* project() -> the project's folder when it is above the current folder, else nil; then, for a project that
 * must not be used, its folder and "others" or "all" */
static int fs_project(lua_State *L)
{
    struct project p;
    project_find(&p);
    if (p.folder[0] != '\0')
        lua_pushstring(L, p.folder);
    else
        lua_pushnil(L);
    if (p.reason == PROJECT_NONE_PASSED)
        return 1;
    lua_pushstring(L, p.passed_by);
    lua_pushstring(L, p.reason == PROJECT_OF_OTHERS ? "others" : "all");
    return 3;
}

/* stranger(name) -> the uid of another user who owns `name` in the current folder that everyone can write,
 * else nil */
static int fs_stranger(lua_State *L)
{
    uid_t owner;
    if (!project_is_strange(check_path(L, 1), &owner))
        return 0;
    lua_pushinteger(L, (lua_Integer)owner);
    return 1;
}

int bind_fs_open(lua_State *L, struct runtime *rt)
{
    static const luaL_Reg dir_meta[] = {{"__gc", dir__gc}, {"__close", dir__gc}, {NULL, NULL}};
    static const luaL_Reg lock_meta[] = {{"__gc", lock__gc}, {"__close", lock__gc}, {NULL, NULL}};
    static const luaL_Reg none[] = {{NULL, NULL}};
    static const luaL_Reg lock_methods[] = {{"release", lock_release}, {NULL, NULL}};
    static const luaL_Reg functions[] = {
        {"stat", fs_stat},           {"access", fs_access},
        {"list", fs_list},           {"realpath", fs_realpath},
        {"readlink", fs_readlink},   {"cwd", fs_cwd},
        {"mkdir", fs_mkdir},         {"free_space", fs_free_space},
        {"rmdir", fs_rmdir},         {"rmtree", fs_rmtree},
        {"unlink", fs_unlink},       {"rename", fs_rename},
        {"chown", fs_chown},         {"chmod", fs_chmod},
        {"symlink", fs_symlink},     {"mkdtemp", fs_mkdtemp},
        {"write_new", fs_write_new}, {"try_lock", fs_try_lock},
        {"limit_hint", limit_hint},  {"project", fs_project},
        {"stranger", fs_stranger},   {NULL, NULL},
    };
    bind_class(L, rt, DIR_CLASS, dir_meta, none);
    bind_class(L, rt, LOCK_CLASS, lock_meta, lock_methods);
    lua_pop(L, 2);
    bind_lib(L, rt, functions);
    return 1;
}
