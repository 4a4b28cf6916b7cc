/*
 * The program's log: lines on stderr, as text or JSON, with secrets masked.
 * text:  2026-01-31T12:00:00.123Z WARN  pool: ...
 * json:  {"time":"...","level":"warn","message":"..."}
 */
#ifndef DBRUN_BASE_LOG_H
#define DBRUN_BASE_LOG_H

#include "base/secrets.h"

#include <stdbool.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

struct log {
    enum log_level level; /* lines of more detailed levels are dropped */
    bool json;
    int fd;
    const struct secrets *secrets;
};

static inline bool log_wants(const struct log *log, enum log_level level)
{
    return level <= log->level;
}

void log_write(const struct log *log, enum log_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* "error" "warn" "info" "debug"; false for any other word. */
bool log_level_parse(const char *word, enum log_level *level);

#endif
