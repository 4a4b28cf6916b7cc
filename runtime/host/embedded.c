#include "host/embedded.h"

#include <lauxlib.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int compare_name(const void *name, const void *module)
{
    return strcmp(name, ((const struct embedded_module *)module)->name);
}

const struct embedded_module *embedded_find(const char *name)
{
    return bsearch(name, embedded_modules, embedded_count, sizeof *embedded_modules, compare_name);
}

/* Drops the pages of all embedded code. Between its first and last byte are only read-only arrays, which can
 * be read from the program's file again. */
static void leave_memory(void)
{
    uintptr_t begin = UINTPTR_MAX;
    uintptr_t end = 0;
    for (size_t i = 0; i < embedded_count; i++) {
        uintptr_t code = (uintptr_t)embedded_modules[i].code;
        uintptr_t behind = code + embedded_modules[i].size;
        begin = code < begin ? code : begin;
        end = behind > end ? behind : end;
    }
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    begin = (begin + page - 1) & ~(page - 1);
    end &= ~(page - 1);
    if (begin < end)
        (void)madvise((void *)begin, end - begin, MADV_DONTNEED); /* a failure only costs memory */
}

int embedded_load(lua_State *L, const struct embedded_module *m, const char *name)
{
    int status = luaL_loadbufferx(L, (const char *)m->code, m->size, name, "b");
    leave_memory();
    return status;
}

const struct embedded_text *embedded_find_text(const char *name)
{
    for (size_t i = 0; i < embedded_text_count; i++)
        if (strcmp(embedded_texts[i].name, name) == 0)
            return &embedded_texts[i];
    return NULL;
}
