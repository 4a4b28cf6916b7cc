/* Finds the file that a script's name on the command line means. */
#ifndef DBRUN_HOST_SCRIPT_H
#define DBRUN_HOST_SCRIPT_H

#include "base/buf.h"
#include "host/embedded.h"

#include <stdbool.h>
#include <stddef.h>

/* The regular file `name` if there is one; else scripts/<name>.lua of the project, beside the binary (a build
 * tree, a moved installation), or where it was installed; else the script inside the binary, set in *inside;
 * else `name`, which can be a pipe. False when there is none; `path` then holds `name`. */
bool script_find(const char *name, char *path, size_t size, const struct embedded_module **inside);

/* The same without the file `name` itself: a link to dbrun may have the script's name. */
bool script_find_named(const char *name, char *path, size_t size, const struct embedded_module **inside);

/* The names of all scripts that script_find_named finds, each followed by a NUL. False: out of memory. */
bool script_names(struct buf *names);

/* Absolute path of the running binary; false when it is unknown. */
bool script_program(char *path, size_t size);

#endif
