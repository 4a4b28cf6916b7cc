#include "host/editline.h"

#include "base/symbol.h"

#include <editline/readline.h>

#define EDITLINE_SONAME "libedit.so.2"

/* dbrun handles Ctrl-C itself; ~/.editrc can test the program's name. */
static bool set_up(void *library, int (*getc)(FILE *in))
{
    int *catch_signals;
    const char **name;
    int (**get)(FILE * in);
    if (!symbol_find(library, "rl_catch_signals", &catch_signals) ||
        !symbol_find(library, "rl_readline_name", &name) || !symbol_find(library, "rl_getc_function", &get))
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
    found = symbol_find(library, "using_history", &e.begin) &&
            symbol_find(library, "rl_callback_handler_install", &e.install) &&
            symbol_find(library, "rl_callback_handler_remove", &e.remove) &&
            symbol_find(library, "rl_callback_read_char", &e.read_char) &&
            symbol_find(library, "rl_deprep_terminal", &e.restore) &&
            symbol_find(library, "rl_prep_terminal", &e.prepare) &&
            symbol_find(library, "rl_forced_update_display", &e.redraw) &&
            symbol_find(library, "rl_parse_and_bind", &e.configure) &&
            symbol_find(library, "add_history", &e.add_history) &&
            symbol_find(library, "rl_add_defun", &e.bind) &&
            symbol_find(library, "rl_line_buffer", &e.text) && symbol_find(library, "rl_point", &e.point) &&
            set_up(library, getc);
    return found ? &e : NULL;
}
