#include "host/editline.h"

#include <dlfcn.h>
#include <editline/readline.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define EDITLINE_SONAME "libedit.so.2"

/* ISO C has no cast from an object pointer to a function pointer; POSIX gives dlsym this meaning. */
static bool find(void *library, const char *name, void *out)
{
    void *p = dlsym(library, name);
    memcpy(out, &p, sizeof p);
    return p != NULL;
}

/* dbrun handles Ctrl-C itself; ~/.editrc may test the program's name. */
static bool set_up(void *library, int (*getc)(FILE *in))
{
    int *catch_signals;
    const char **name;
    int (**get)(FILE * in);
    if (!find(library, "rl_catch_signals", &catch_signals) || !find(library, "rl_readline_name", &name) ||
        !find(library, "rl_getc_function", &get))
        return false;
    *catch_signals = 0;
    *name = "dbrun";
    *get = getc;
    return true;
}

const struct editline *editline_open(int (*getc)(FILE *in))
{
    static struct editline e;
    static bool tried;
    static bool found;
    if (tried)
        return found ? &e : NULL;
    tried = true;
    void *library = dlopen(EDITLINE_SONAME, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        return NULL;
    found =
        find(library, "rl_callback_handler_install", &e.install) &&
        find(library, "rl_callback_handler_remove", &e.remove) &&
        find(library, "rl_callback_read_char", &e.read_char) &&
        find(library, "rl_deprep_terminal", &e.restore) && find(library, "rl_prep_terminal", &e.prepare) &&
        find(library, "rl_forced_update_display", &e.redraw) &&
        find(library, "rl_parse_and_bind", &e.configure) && find(library, "add_history", &e.add_history) &&
        find(library, "rl_add_defun", &e.bind) && find(library, "rl_line_buffer", &e.text) &&
        find(library, "rl_point", &e.point) && set_up(library, getc);
    return found ? &e : NULL;
}
