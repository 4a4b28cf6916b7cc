/*
 * The Lua modules inside the binary, as bytecode of the linked Lua (with debug information, so that
 * tracebacks name file and line), and texts. Made at build time by embed/embed.c.
 */
#ifndef DBRUN_HOST_EMBEDDED_H
#define DBRUN_HOST_EMBEDDED_H

#include <lua.h>
#include <stddef.h>

struct embedded_module {
    const char *name; /* "dbrun.config" */
    const unsigned char *code;
    size_t size;
};

extern const struct embedded_module embedded_modules[]; /* sorted by name */
extern const size_t embedded_count;

/* The module of that name; NULL when there is none. */
const struct embedded_module *embedded_find(const char *name);

/* Pushes the module's function, as luaL_loadbufferx does. Afterwards drops the pages of the binary that were
 * read for it: the kernel maps 64 KiB around each page, and a run that loads sixty modules would keep nearly
 * all of them in memory. */
int embedded_load(lua_State *L, const struct embedded_module *m, const char *name);

/* What `dbrun help` shows: chapters of the manual, and the annotations of Lua files; also "viewer.html", the
 * page of --trace. */
struct embedded_text {
    const char *name; /* "manual/postgres.md", "dbrun/task.lua" */
    const unsigned char *text;
    size_t size;
};

extern const struct embedded_text embedded_texts[];
extern const size_t embedded_text_count;

/* The text of that name; NULL when there is none. */
const struct embedded_text *embedded_find_text(const char *name);

#endif
