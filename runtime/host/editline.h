/*
 * Line editing at the prompt: libedit, opened with dlopen when the prompt runs at a terminal. Linking it
 * would slow every start.
 */
#ifndef DBRUN_HOST_EDITLINE_H
#define DBRUN_HOST_EDITLINE_H

#include <stdio.h>

/* libedit's functions and variables, by their readline interface. */
struct editline {
    void (*begin)(void); /* using_history: makes the editor unless there is one */
    void (*install)(const char *prompt, void (*line)(char *line)); /* rl_callback_handler_install */
    void (*remove)(void);                                          /* rl_callback_handler_remove */
    void (*read_char)(void);                                       /* rl_callback_read_char */
    void (*restore)(void);                                         /* rl_deprep_terminal: ordinary modes */
    void (*prepare)(int meta);                                     /* rl_prep_terminal: the editor's */
    int (*configure)(const char *command);                         /* rl_parse_and_bind: of editrc(5) */
    int (*redraw)(void);                                           /* rl_forced_update_display */
    int (*add_history)(const char *line);
    int (*bind)(const char *name, int (*fn)(int, int), int key); /* rl_add_defun */
    char **text;                                                 /* rl_line_buffer */
    int *point;                                                  /* rl_point, in bytes */
};

/* NULL when the library is not installed. It stays loaded until the end of the program. `getc` returns
 * libedit's next character, as a wide one; -1 = none. */
const struct editline *editline_open(int (*getc)(FILE *in));

#endif
