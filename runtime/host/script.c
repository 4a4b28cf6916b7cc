#include "host/script.h"

#include "base/project.h"
#include "config.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool script_program(char *path, size_t size)
{
    ssize_t len = readlink("/proc/self/exe", path, size - 1);
    path[len > 0 ? len : 0] = '\0';
    return len > 0;
}

/* True when it can be read as a script: a file, a pipe, a terminal. */
static bool is_script(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && !S_ISDIR(st.st_mode);
}

/* True for the name of a command, not a path. */
static bool is_word(const char *name)
{
    return name[0] != '\0' && name[0] != '.' && strchr(name, '/') == NULL;
}

/* True when a file in the current folder has priority over the command of its name. Not a folder or a pipe,
 * and not a file that another user has left in a folder that everyone can write. */
static bool outranks_command(const char *name)
{
    struct stat st;
    uid_t owner;
    return stat(name, &st) == 0 && S_ISREG(st.st_mode) && !project_is_strange(name, &owner);
}

/* Calls `see` with each folder of commands, in their order, until it returns true. */
static bool each_folder(bool (*see)(const char *folder, void *data), void *data)
{
    struct project project;
    char folder[PATH_MAX];
    char program[PATH_MAX];
    uid_t owner;
    project_find(&project);
    if (project.folder[0] != '\0') {
        int len = snprintf(folder, sizeof folder, "%s/scripts", project.folder);
        if (len > 0 && (size_t)len < sizeof folder && see(folder, data))
            return true;
    } else if (!project_is_strange("scripts", &owner) && see("scripts", data))
        return true;
    if (script_program(program, sizeof program)) {
        *strrchr(program, '/') = '\0';
        static const char *const beside[] = {"../share/dbrun/scripts", "../scripts"};
        for (size_t i = 0; i < sizeof beside / sizeof *beside; i++) {
            int len = snprintf(folder, sizeof folder, "%s/%s", program, beside[i]);
            if (len > 0 && (size_t)len < sizeof folder && see(folder, data))
                return true;
        }
    }
    return see(DBRUN_PREFIX "/share/dbrun/scripts", data);
}

struct search {
    const char *name;
    char *path;
    size_t size;
};

static bool try(const char *folder, void *data)
{
    struct search *s = data;
    int len = snprintf(s->path, s->size, "%s/%s.lua", folder, s->name);
    return len > 0 && (size_t)len < s->size && is_script(s->path);
}

bool script_find_named(const char *name, char *path, size_t size, const struct embedded_module **inside)
{
    struct search search = {name, path, size};
    char own[PATH_MAX];
    *inside = NULL;
    if (each_folder(try, &search))
        return true;
    int len = snprintf(own, sizeof own, "scripts/%s", name);
    *inside = len > 0 && (size_t)len < sizeof own ? embedded_find(own) : NULL;
    if (*inside != NULL)
        snprintf(path, size, "%s.lua", own);
    return *inside != NULL;
}

/* Returns true, which ends the search, when out of memory. */
static bool collect(const char *folder, void *data)
{
    DIR *dir = opendir(folder);
    bool ok = true;
    for (struct dirent *e = dir != NULL ? readdir(dir) : NULL; ok && e != NULL; e = readdir(dir)) {
        size_t len = strlen(e->d_name);
        if (len > 4 && e->d_name[0] != '.' && strcmp(e->d_name + len - 4, ".lua") == 0)
            ok = buf_add(data, e->d_name, len - 4) && buf_add(data, "", 1);
    }
    if (dir != NULL)
        closedir(dir);
    return !ok;
}

bool script_names(struct buf *names)
{
    static const char folder[] = "scripts/";
    bool ok = !each_folder(collect, names);
    for (size_t i = 0; ok && i < embedded_count; i++) {
        const char *name = embedded_modules[i].name;
        if (strncmp(name, folder, sizeof folder - 1) == 0)
            ok = buf_add(names, name + sizeof folder - 1, strlen(name) - sizeof folder + 2);
    }
    return ok;
}

bool script_find(const char *name, char *path, size_t size, const struct embedded_module **inside)
{
    *inside = NULL;
    bool may_be_command =
        name[0] != '/' && name[0] != '.' && (is_word(name) ? !outranks_command(name) : !is_script(name));
    if (may_be_command && script_find_named(name, path, size, inside))
        return true;
    snprintf(path, size, "%s", name);
    return access(name, F_OK) == 0;
}
