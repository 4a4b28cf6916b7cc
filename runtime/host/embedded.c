#include "host/embedded.h"

#include <stdlib.h>
#include <string.h>

static int compare_name(const void *name, const void *module)
{
    return strcmp(name, ((const struct embedded_module *)module)->name);
}

const struct embedded_module *embedded_find(const char *name)
{
    return bsearch(name, embedded_modules, embedded_count, sizeof *embedded_modules, compare_name);
}

const struct embedded_text *embedded_find_text(const char *name)
{
    for (size_t i = 0; i < embedded_text_count; i++)
        if (strcmp(embedded_texts[i].name, name) == 0)
            return &embedded_texts[i];
    return NULL;
}
