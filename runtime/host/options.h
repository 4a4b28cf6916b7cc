/*
 * The command line: lua's options and dbrun's own, in any order, up to the script's name. Parsing runs
 * no Lua and prints nothing; it borrows argv.
 */
#ifndef DBRUN_HOST_OPTIONS_H
#define DBRUN_HOST_OPTIONS_H

#include "base/log.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* -e, -l and -W run in the order of the command line. */
struct option_action {
    char kind; /* 'e', 'l' or 'W' */
    const char *text;
};

struct options {
    int script;     /* index of the script's name in argv; argc = none */
    bool is_stdin;  /* the script is "-" */
    bool version;   /* -v */
    bool interact;  /* -i */
    bool no_env;    /* -E: ignore LUA_INIT, LUA_PATH and LUA_CPATH */
    bool help;      /* --help */
    bool about;     /* --version */
    bool stack;     /* --stack */
    bool no_dotenv; /* --no-env */
    const char *env_file;
    bool read_only;
    bool dry_run;
    bool log_parameters;
    const char *target; /* the name of the protected database that the prompt or a dry run may use */
    double timeout;     /* seconds, as the two below; 0 = none */
    double statement_timeout;
    double lock_timeout;
    const char *trace;    /* the file; NULL = none */
    uint64_t trace_limit; /* bytes; 0 = not given */
    const char *log;      /* the word; NULL = default */
    enum log_level log_level;
    const char *log_format; /* "text", "json" or NULL */
    struct option_action *actions;
    int action_count;
    const char **folders; /* of -C, entered one after the other */
    int folder_count;
    char error[256];     /* what is wrong with the command line */
    const char *unknown; /* the unknown option, for a hint; else NULL */
    size_t unknown_len;
};

/* False when the command line is wrong: o->error then says what, in one line. */
bool options_parse(struct options *o, int argc, char **argv);
/* Sets what the command line leaves open from the environment variables DBRUN_LOG and DBRUN_LOG_FORMAT; false
 * as above. */
bool options_environment(struct options *o);
void options_free(struct options *o);
/* True when there is something to run without a script, such as -e. (Then there is no prompt, and stdin is
 * not run.) */
bool options_has_code(const struct options *o);

/* One option, as --help and completion show it. */
struct option_words {
    const char *name;    /* with its dashes */
    const char *value;   /* its argument; NULL: none */
    const char *choices; /* the allowed values, separated by blanks; NULL: any */
    const char *about;
};

/* The options in the order of --help; NULL after the last. */
const struct option_words *options_words(size_t i);
/* The text of --help. */
void options_print_help(FILE *out);

#endif
