/* Finds the file that a script's name on the command line means. */
#ifndef DBRUN_HOST_SCRIPT_H
#define DBRUN_HOST_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>

/* The file `name` itself where there is one; else scripts/<name>.lua in the current folder, beside the
 * binary (a build tree, an installation that was moved), or where it was installed. False when no file was
 * found; `path` then holds `name`. */
bool script_find(const char *name, char *path, size_t size);

/* The same without the file `name` itself: a link to dbrun may have the script's name. */
bool script_find_named(const char *name, char *path, size_t size);

/* Absolute path of the running binary; false when it is unknown. */
bool script_program(char *path, size_t size);

#endif
