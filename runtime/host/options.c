#include "host/options.h"

#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char options_help[] =
    "usage: dbrun [options] [script [args]]\n"
    "\n"
    "Runs a Lua script with PostgreSQL and Redis at hand. Where no file is named `script`, it is\n"
    "scripts/<script>.lua of the current folder, then of the installation (verify, migrate, seed, ...).\n"
    "\n"
    "Options of lua:\n"
    "  -e stat             execute string 'stat'\n"
    "  -i                  enter interactive mode after executing 'script'\n"
    "  -l mod              require library 'mod' into global 'mod'\n"
    "  -l g=mod            require library 'mod' into global 'g'\n"
    "  -v                  show the version of Lua\n"
    "  -E                  ignore LUA_INIT, LUA_PATH and LUA_CPATH\n"
    "  -W                  turn warnings on\n"
    "  --                  stop handling options\n"
    "  -                   stop handling options and execute stdin\n"
    "\n"
    "Options of dbrun:\n"
    "  --env-file FILE     read FILE instead of ./.env\n"
    "  --no-env            read no .env\n"
    "  --stack             use the private PostgreSQL and Redis; start them when they do not run\n"
    "  --read-only         sessions are read-only on the server; Redis commands that may write are refused\n"
    "  --timeout S         end the script after S seconds\n"
    "  --statement-timeout S, --lock-timeout S\n"
    "                      the server ends statements, and waits for locks, that take longer\n"
    "  --log LEVEL         error, warn (default), info or debug, on stderr\n"
    "  --log-format FORM   text (default) or json\n"
    "  --log-parameters    with --log debug: the parameters of statements too, which may be secret\n"
    "  --version           show the versions of dbrun and Lua\n"
    "  --help              show this\n"
    "\n"
    "Exit status: 0 ok, 1 the script failed, 2 wrong usage or configuration, 129/130/143 interrupted.\n";

__attribute__((format(printf, 2, 3))) static bool wrong(struct options *o, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(o->error, sizeof o->error, fmt, ap);
    va_end(ap);
    return false;
}

static bool set_seconds(struct options *o, const char *name, const char *text, double *out)
{
    char *end;
    *out = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(*out) || *out <= 0)
        return wrong(o, "--%s: expected a number of seconds above 0, got '%s'", name, text);
    return true;
}

static bool set_timeout(struct options *o, const char *text)
{
    return set_seconds(o, "timeout", text, &o->timeout);
}

/* PostgreSQL takes both as milliseconds in 31 bits. */
static bool set_server_seconds(struct options *o, const char *name, const char *text, double *out)
{
    if (!set_seconds(o, name, text, out))
        return false;
    if (*out < 0.001 || *out > INT32_MAX / 1000.0)
        return wrong(o, "--%s: expected 0.001 to 2147483 seconds, got '%s'", name, text);
    return true;
}

static bool set_statement_timeout(struct options *o, const char *text)
{
    return set_server_seconds(o, "statement-timeout", text, &o->statement_timeout);
}

static bool set_lock_timeout(struct options *o, const char *text)
{
    return set_server_seconds(o, "lock-timeout", text, &o->lock_timeout);
}

static bool set_log(struct options *o, const char *text)
{
    o->log = text;
    if (!log_level_parse(text, &o->log_level))
        return wrong(o, "--log: expected error, warn, info or debug, got '%s'", text);
    return true;
}

static bool set_log_format(struct options *o, const char *text)
{
    o->log_format = text;
    if (strcmp(text, "text") != 0 && strcmp(text, "json") != 0)
        return wrong(o, "--log-format: expected text or json, got '%s'", text);
    return true;
}

static bool set_env_file(struct options *o, const char *text)
{
    o->env_file = text;
    return true;
}

struct long_option {
    const char *name;
    size_t flag; /* offset of the bool it sets; unused when it takes a value */
    bool (*set)(struct options *o, const char *text);
};

static const struct long_option long_options[] = {
    {"env-file", 0, set_env_file},
    {"timeout", 0, set_timeout},
    {"statement-timeout", 0, set_statement_timeout},
    {"lock-timeout", 0, set_lock_timeout},
    {"read-only", offsetof(struct options, read_only), NULL},
    {"log-parameters", offsetof(struct options, log_parameters), NULL},
    {"log", 0, set_log},
    {"log-format", 0, set_log_format},
    {"no-env", offsetof(struct options, no_dotenv), NULL},
    {"stack", offsetof(struct options, stack), NULL},
    {"help", offsetof(struct options, help), NULL},
    {"version", offsetof(struct options, about), NULL},
};

/* `--name`, `--name value` or `--name=value`; *i moves on to the value. */
static bool parse_long(struct options *o, char **argv, int *i)
{
    const char *name = argv[*i] + 2;
    size_t len = strcspn(name, "=");
    const char *value = name[len] == '=' ? name + len + 1 : NULL;
    for (size_t k = 0; k < sizeof long_options / sizeof *long_options; k++) {
        const struct long_option *option = &long_options[k];
        if (strlen(option->name) != len || strncmp(option->name, name, len) != 0)
            continue;
        if (option->set == NULL) {
            if (value != NULL)
                return wrong(o, "'--%s' takes no value", option->name);
            *(bool *)((char *)o + option->flag) = true;
            return true;
        }
        if (value == NULL) {
            value = argv[*i + 1];
            if (value == NULL)
                return wrong(o, "'--%s' needs a value", option->name);
            ++*i;
        }
        return option->set(o, value);
    }
    return wrong(o, "unrecognized option '%.*s' (dbrun --help lists them)", (int)(len + 2), argv[*i]);
}

static void add_action(struct options *o, char kind, const char *text)
{
    o->actions[o->action_count++] = (struct option_action){kind, text};
}

/* One of lua's own: a letter, and for -e and -l an argument, here or next. */
static bool parse_short(struct options *o, char **argv, int *i)
{
    const char *option = argv[*i];
    char letter = option[1];
    if (letter == 'e' || letter == 'l') {
        const char *text = option + 2;
        if (*text == '\0') {
            text = argv[++*i];
            if (text == NULL || *text == '-')
                return wrong(o, "'-%c' needs argument", letter);
        }
        add_action(o, letter, text);
        return true;
    }
    if (strchr("EivW", letter) == NULL || option[2] != '\0')
        return wrong(o, "unrecognized option '%s' (dbrun --help lists them)", option);
    o->no_env |= letter == 'E';
    o->interact |= letter == 'i';
    o->version |= letter == 'i' || letter == 'v'; /* -i implies -v */
    if (letter == 'W')
        add_action(o, letter, NULL);
    return true;
}

bool options_parse(struct options *o, int argc, char **argv)
{
    memset(o, 0, sizeof *o);
    o->script = argc;
    o->actions = calloc((size_t)argc + 1, sizeof *o->actions);
    if (o->actions == NULL)
        return wrong(o, "not enough memory");
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];
        if (arg[0] != '-' || arg[1] == '\0') {
            o->script = i;
            o->is_stdin = arg[0] == '-';
            return true;
        }
        if (strcmp(arg, "--") == 0) {
            o->script = i + 1;
            return true;
        }
        if (!(arg[1] == '-' ? parse_long(o, argv, &i) : parse_short(o, argv, &i)))
            return false;
    }
    return true;
}

bool options_environment(struct options *o)
{
    const char *log = getenv("DBRUN_LOG");
    const char *format = getenv("DBRUN_LOG_FORMAT");
    if (o->log == NULL && log != NULL && *log != '\0') {
        if (!log_level_parse(log, &o->log_level))
            return wrong(o, "DBRUN_LOG (environment): expected error, warn, info or debug, got '%s'", log);
        o->log = log;
    }
    if (o->log_format == NULL && format != NULL && *format != '\0') {
        if (strcmp(format, "text") != 0 && strcmp(format, "json") != 0)
            return wrong(o, "DBRUN_LOG_FORMAT (environment): expected text or json, got '%s'", format);
        o->log_format = format;
    }
    return true;
}

void options_free(struct options *o)
{
    free(o->actions);
    o->actions = NULL;
}

bool options_has_code(const struct options *o)
{
    for (int i = 0; i < o->action_count; i++)
        if (o->actions[i].kind == 'e')
            return true;
    return o->version;
}
