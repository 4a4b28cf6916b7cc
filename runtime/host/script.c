#include "host/script.h"

#include "config.h"

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

/* Can it be read as a script: is it a file, a pipe, a terminal? */
static bool is_script(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && !S_ISDIR(st.st_mode);
}

static bool try(char *path, size_t size, const char *folder, const char *name)
{
    int len = snprintf(path, size, "%s/%s.lua", folder, name);
    return len > 0 && (size_t)len < size && is_script(path);
}

bool script_find_named(const char *name, char *path, size_t size)
{
    char folder[PATH_MAX];
    char program[PATH_MAX];
    if (try(path, size, "scripts", name))
        return true;
    if (script_program(program, sizeof program)) {
        *strrchr(program, '/') = '\0';
        static const char *const beside[] = {"../share/dbrun/scripts", "../scripts"};
        for (size_t i = 0; i < sizeof beside / sizeof *beside; i++) {
            int len = snprintf(folder, sizeof folder, "%s/%s", program, beside[i]);
            if (len > 0 && (size_t)len < sizeof folder && try(path, size, folder, name))
                return true;
        }
    }
    return try(path, size, DBRUN_PREFIX "/share/dbrun/scripts", name);
}

bool script_find(const char *name, char *path, size_t size)
{
    if (!is_script(name) && name[0] != '/' && name[0] != '.' && script_find_named(name, path, size))
        return true;
    snprintf(path, size, "%s", name);
    return access(name, F_OK) == 0;
}
