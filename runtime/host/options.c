#include "host/options.h"

#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Bytes of --trace-limit. */
enum { MIN_TRACE = 64 << 10 };

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

/* FILE.html is the page, FILE.json only the events. */
static bool set_trace(struct options *o, const char *text)
{
    size_t len = strlen(text);
    bool known = len > 5 && (strcmp(text + len - 5, ".json") == 0 || strcmp(text + len - 5, ".html") == 0);
    if (!known || text[len - 6] == '/')
        return wrong(o, "--trace: expected FILE.json or FILE.html, got '%.200s'", text);
    o->trace = text;
    return true;
}

/* A size as in options of scripts: k and KiB are 1024 bytes, kB is 1000. */
static bool set_trace_limit(struct options *o, const char *text)
{
    static const char letters[] = "kmgt";
    char *unit;
    double size = strtod(text, &unit);
    size_t digits = strspn(text, "0123456789.");
    const char *letter = *unit != '\0' ? strchr(letters, *unit | 0x20) : NULL;
    const char *rest = letter != NULL ? unit + 1 : unit;
    bool known =
        *rest == '\0' || strcasecmp(rest, "b") == 0 || (letter != NULL && strcasecmp(rest, "ib") == 0);
    double step = letter != NULL && strcasecmp(rest, "b") == 0 ? 1000 : 1024;
    if (letter != NULL)
        size *= pow(step, (double)(letter - letters + 1));
    if (digits == 0 || text + digits != unit || !known || !(size >= MIN_TRACE && size < 1e15))
        return wrong(
            o, "--trace-limit: expected a size of 64 KiB or more, such as 500k or 64MiB, got '%.100s'", text);
    o->trace_limit = (uint64_t)size;
    return true;
}

static bool set_folder(struct options *o, const char *text)
{
    if (*text == '\0')
        return wrong(o, "-C: expected a folder, got an empty name");
    o->folders[o->folder_count++] = text;
    return true;
}

static bool set_env_file(struct options *o, const char *text)
{
    o->env_file = text;
    return true;
}

static bool set_target(struct options *o, const char *text)
{
    o->target = text;
    return true;
}

/* lua's own options, in its order. */
static const struct option_words lua_options[] = {
    {"-e", "stat", NULL, "execute string 'stat'"},
    {"-i", NULL, NULL, "enter interactive mode after executing 'script'"},
    {"-l", "mod", NULL, "require library 'mod' into global 'mod'"},
    {"-l", "g=mod", NULL, "require library 'mod' into global 'g'"},
    {"-v", NULL, NULL, "show the version of Lua"},
    {"-E", NULL, NULL, "ignore LUA_INIT, LUA_PATH and LUA_CPATH"},
    {"-W", NULL, NULL, "turn warnings on"},
    {"--", NULL, NULL, "stop handling options"},
    {"-", NULL, NULL, "stop handling options and execute stdin"},
};

struct long_option {
    struct option_words words;
    size_t flag; /* offset of the bool it sets; unused when it takes a value */
    bool (*set)(struct options *o, const char *text);
};

#define FLAG(field) offsetof(struct options, field), NULL

/* In the order of --help. -C has a letter only, as in git and make. */
static const struct long_option own_options[] = {
    {{"-C", "DIR", NULL, "go to the folder DIR first"}, 0, set_folder},
    {{"--env-file", "FILE", NULL, "read FILE instead of the project's .env"}, 0, set_env_file},
    {{"--no-env", NULL, NULL, "read no .env"}, FLAG(no_dotenv)},
    {{"--stack", NULL, NULL, "use the private PostgreSQL and Redis; start them when they do not run"},
     FLAG(stack)},
    {{"--read-only", NULL, NULL,
      "sessions are read-only on the server; Redis commands that may write are refused"},
     FLAG(read_only)},
    {{"--dry-run", NULL, NULL,
      "roll PostgreSQL back at the end; only report Redis writes and child processes"},
     FLAG(dry_run)},
    {{"--target", "NAME", NULL, "the protected database (DBRUN_PROTECTED) for the prompt, or a dry run"},
     0,
     set_target},
    {{"--timeout", "S", NULL, "end the script after S seconds"}, 0, set_timeout},
    {{"--statement-timeout", "S", NULL, "the server ends statements that take longer"},
     0,
     set_statement_timeout},
    {{"--lock-timeout", "S", NULL, "the server ends waits for locks that take longer"}, 0, set_lock_timeout},
    {{"--trace", "FILE", NULL,
      "write what the script waits for into FILE.html, a page, or FILE.json (Perfetto)"},
     0,
     set_trace},
    {{"--trace-limit", "SIZE", NULL, "leave out short events so that FILE takes at most SIZE (64MiB)"},
     0,
     set_trace_limit},
    {{"--log", "LEVEL", "error warn info debug", "error, warn (default), info or debug, on stderr"},
     0,
     set_log},
    {{"--log-format", "FORM", "text json", "text (default) or json"}, 0, set_log_format},
    {{"--log-parameters", NULL, NULL,
      "with --log debug: the parameters of statements too, which may be secret"},
     FLAG(log_parameters)},
    {{"--version", NULL, NULL, "show the versions of dbrun and Lua"}, FLAG(about)},
    {{"--help", NULL, NULL, "show this; -h, or dbrun help, shows the manual"}, FLAG(help)},
};

enum {
    LUA_OPTIONS = sizeof lua_options / sizeof *lua_options,
    OWN_OPTIONS = sizeof own_options / sizeof *own_options,
};

const struct option_words *options_words(size_t i)
{
    if (i < LUA_OPTIONS)
        return &lua_options[i];
    return i < LUA_OPTIONS + OWN_OPTIONS ? &own_options[i - LUA_OPTIONS].words : NULL;
}

static void print_words(FILE *out, const struct option_words *w)
{
    char name[64];
    snprintf(name, sizeof name, "%s%s%s", w->name, w->value != NULL ? " " : "",
             w->value != NULL ? w->value : "");
    fprintf(out, "  %-22s %s\n", name, w->about);
}

void options_print_help(FILE *out)
{
    fputs("usage: dbrun [options] [script [args]]\n"
          "\n"
          "Runs a Lua script with PostgreSQL and Redis at hand. Where no file is named `script`, it is\n"
          "scripts/<script>.lua of the project, then of the installation (verify, migrate, seed, ...).\n"
          "The project is the nearest folder upwards with .dbrun, .env or scripts/migrations.\n"
          "\n"
          "Options of lua:\n",
          out);
    for (size_t i = 0; i < LUA_OPTIONS; i++)
        print_words(out, &lua_options[i]);
    fputs("\nOptions of dbrun:\n", out);
    for (size_t i = 0; i < OWN_OPTIONS; i++)
        print_words(out, &own_options[i].words);
    fputs("\nExit status: 0 ok, 1 the script failed, 2 wrong usage or configuration, 129/130/143 "
          "interrupted.\n",
          out);
}

static bool unknown(struct options *o, const char *option, size_t len)
{
    o->unknown = option;
    o->unknown_len = len;
    return wrong(o, "unrecognized option '%.*s'", (int)(len < 128 ? len : 128), option);
}

/* `--name`, `--name value` or `--name=value`; *i moves on to the value. */
static bool parse_long(struct options *o, char **argv, int *i)
{
    const char *name = argv[*i];
    size_t len = strcspn(name, "=");
    const char *value = name[len] == '=' ? name + len + 1 : NULL;
    for (size_t k = 0; k < OWN_OPTIONS; k++) {
        const struct long_option *option = &own_options[k];
        if (strlen(option->words.name) != len || strncmp(option->words.name, name, len) != 0)
            continue;
        if (option->set == NULL) {
            if (value != NULL)
                return wrong(o, "'%s' takes no value", option->words.name);
            *(bool *)((char *)o + option->flag) = true;
            return true;
        }
        if (value == NULL) {
            value = argv[*i + 1];
            if (value == NULL)
                return wrong(o, "'%s' needs a value", option->words.name);
            ++*i;
        }
        return option->set(o, value);
    }
    return unknown(o, argv[*i], len);
}

static void add_action(struct options *o, char kind, const char *text)
{
    o->actions[o->action_count++] = (struct option_action){kind, text};
}

/* One of lua's own options: a letter, and for -e and -l an argument, attached or next. */
static bool parse_short(struct options *o, char **argv, int *i)
{
    const char *option = argv[*i];
    char letter = option[1];
    if (letter == 'e' || letter == 'l' || letter == 'C') {
        const char *text = option + 2;
        if (*text == '\0') {
            text = argv[++*i];
            if (text == NULL || (*text == '-' && letter != 'C'))
                return wrong(o, "'-%c' needs argument", letter);
        }
        if (letter == 'C')
            return set_folder(o, text);
        add_action(o, letter, text);
        return true;
    }
    if (strchr("EivW", letter) == NULL || option[2] != '\0')
        return unknown(o, option, strcspn(option, "="));
    o->no_env |= letter == 'E';
    o->interact |= letter == 'i';
    o->version |= letter == 'i' || letter == 'v'; /* -i implies -v */
    if (letter == 'W')
        add_action(o, letter, NULL);
    return true;
}

bool options_parse(struct options *o, int argc, char **argv)
{
    static char help[] = "help";
    memset(o, 0, sizeof *o);
    o->script = argc;
    o->actions = calloc((size_t)argc + 1, sizeof *o->actions);
    o->folders = calloc((size_t)argc + 1, sizeof *o->folders);
    if (o->actions == NULL || o->folders == NULL)
        return wrong(o, "not enough memory");
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];
        if (arg[0] != '-' || arg[1] == '\0') {
            o->script = i;
            o->is_stdin = arg[0] == '-';
            return true;
        }
        if (strcmp(arg, "-h") == 0) { /* the script that shows the manual */
            argv[i] = help;
            o->script = i;
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
    free(o->folders);
    o->actions = NULL;
    o->folders = NULL;
}

bool options_has_code(const struct options *o)
{
    for (int i = 0; i < o->action_count; i++)
        if (o->actions[i].kind == 'e')
            return true;
    return o->version;
}
