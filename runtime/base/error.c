#include "base/error.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char out_of_memory[] = "not enough memory";
/* Stands in for the fields of an error when out of memory; never written to. */
static char *no_fields[ERROR_FIELDS];

void error_clear(struct error *e)
{
    if (e->kind == ERROR_NONE) /* the hot path: nothing was set */
        return;
    if (e->message != out_of_memory)
        free(e->message);
    if (e->field != no_fields) {
        for (int i = 0; i < ERROR_FIELDS; i++)
            free(e->field[i]);
        free(e->field);
    }
    *e = (struct error){0};
}

static void make_fields(struct error *e)
{
    e->field = calloc(ERROR_FIELDS, sizeof *e->field);
    if (!e->field)
        e->field = no_fields;
}

void error_setv(struct error *e, enum error_kind kind, const char *fmt, va_list ap)
{
    if (!e)
        return;
    char *text;
    /* Format first: the arguments can point into the error that is about to be cleared. */
    if (vasprintf(&text, fmt, ap) < 0)
        text = out_of_memory;
    error_clear(e);
    e->kind = kind;
    e->message = text;
    make_fields(e);
}

void error_set(struct error *e, enum error_kind kind, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    error_setv(e, kind, fmt, ap);
    va_end(ap);
}

void error_set_field(struct error *e, enum error_field f, const char *text)
{
    if (!e || e->kind == ERROR_NONE || e->field == no_fields)
        return;
    char *copy = text ? strdup(text) : NULL;
    free(e->field[f]);
    e->field[f] = copy;
}

const char *error_limit_hint(int err)
{
    switch (err) {
    case EMFILE:
        return "no file descriptors are left in this program: close files and connections that it does not "
               "need, or raise the limit (ulimit -n)";
    case ENFILE:
        return "no file descriptors are left on this machine";
    case EAGAIN:
        return "too many processes or threads run: raise the limit (ulimit -u)";
    default:
        return NULL;
    }
}

void error_move(struct error *to, struct error *from)
{
    if (to == from)
        return;
    error_clear(to);
    *to = *from;
    *from = (struct error){0};
}

void error_copy(struct error *to, const struct error *from)
{
    if (to == from)
        return;
    error_clear(to);
    if (!error_is_set(from))
        return;
    to->kind = from->kind;
    to->outcome = from->outcome;
    to->retryable = from->retryable;
    to->position = from->position;
    to->column = from->column;
    to->message = from->message ? strdup(from->message) : NULL;
    if (from->message && !to->message)
        to->message = out_of_memory;
    make_fields(to);
    for (int i = 0; i < ERROR_FIELDS && to->field != no_fields; i++)
        to->field[i] = from->field[i] ? strdup(from->field[i]) : NULL;
}

bool error_is_set(const struct error *e)
{
    return e->kind != ERROR_NONE;
}

const char *error_kind_name(enum error_kind k)
{
    static const char *const names[] = {
        [ERROR_NONE] = "none",       [ERROR_USAGE] = "usage",           [ERROR_CONFIG] = "config",
        [ERROR_CONNECT] = "connect", [ERROR_TIMEOUT] = "timeout",       [ERROR_CANCELLED] = "cancelled",
        [ERROR_QUERY] = "query",     [ERROR_CONSTRAINT] = "constraint", [ERROR_POOL] = "pool",
        [ERROR_REDIS] = "redis",     [ERROR_PROTOCOL] = "protocol",     [ERROR_IO] = "io",
    };
    return names[k];
}

const char *error_outcome_name(enum error_outcome o)
{
    static const char *const names[] = {
        [OUTCOME_NONE] = NULL,
        [OUTCOME_NOT_SENT] = "not_sent",
        [OUTCOME_FAILED] = "failed",
        [OUTCOME_UNKNOWN] = "unknown",
    };
    return names[o];
}

const char *error_field_name(enum error_field f)
{
    static const char *const names[] = {
        [ERROR_SQLSTATE] = "sqlstate",   [ERROR_SEVERITY] = "severity",
        [ERROR_DETAIL] = "detail",       [ERROR_HINT] = "hint",
        [ERROR_CONTEXT] = "context",     [ERROR_SCHEMA] = "schema",
        [ERROR_TABLE] = "table",         [ERROR_COLUMN] = "column",
        [ERROR_DATATYPE] = "datatype",   [ERROR_CONSTRAINT_NAME] = "constraint",
        [ERROR_STATEMENT] = "statement", [ERROR_CODE] = "code",
        [ERROR_LAYER] = "layer",         [ERROR_ROUTINE] = "routine",
    };
    return names[f];
}
