/*
 * The program's log: lines on stderr, as text or JSON, with secrets masked.
 * text:  2026-01-31T12:00:00.123Z WARN  pool: ...
 * json:  {"time":"...","level":"warn","message":"..."}
 * With fields: the message on one line, followed by ` rows=5 name="a b"`; in JSON as members.
 */
#ifndef DBRUN_BASE_LOG_H
#define DBRUN_BASE_LOG_H

#include "base/secrets.h"

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

struct log {
    enum log_level level; /* lines of more detailed levels are dropped */
    bool json;
    bool parameters; /* statements are logged with their parameters */
    int fd;
    const struct secrets *secrets;
};

static inline bool log_wants(const struct log *log, enum log_level level)
{
    return level <= log->level;
}

void log_write(const struct log *log, enum log_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* A line with fields, made piece by piece: log_begin, the fields, log_end, which writes it and frees it.
 * Nothing may raise in between. */
struct log_line {
    const struct log *log;
    struct buf out;
};

void log_begin(struct log_line *line, const struct log *log, enum log_level level, const char *message,
               size_t len);
void log_text(struct log_line *line, const char *key, const char *text, size_t len);
/* A value that JSON writes without quotes: a number, true, null, an object. */
void log_raw(struct log_line *line, const char *key, const char *value, size_t len);
void log_milliseconds(struct log_line *line, const char *key, uint64_t ns);
void log_end(struct log_line *line);
/* "error" "warn" "info" "debug"; false for any other word. */
bool log_level_parse(const char *word, enum log_level *level);

#endif
