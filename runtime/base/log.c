#include "base/log.h"

#include "base/printable.h"
#include "base/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const level_names[] = {"error", "warn", "info", "debug"};
static const char *const level_labels[] = {"ERROR", "WARN ", "INFO ", "DEBUG"};

bool log_level_parse(const char *word, enum log_level *level)
{
    for (int i = 0; i <= LOG_LEVEL_DEBUG; i++) {
        if (strcmp(word, level_names[i]) == 0) {
            *level = (enum log_level)i;
            return true;
        }
    }
    return false;
}

static void json_text(struct buf *out, const char *text, size_t len)
{
    for (size_t n, at = 0; at < len; at += n ? n : 1) {
        unsigned char c = (unsigned char)text[at];
        n = utf8_len(text + at, len - at);
        unsigned control = n ? printable_control(text + at, n) : 0;
        if (c == '"' || c == '\\')
            buf_addf(out, "\\%c", c);
        else if (n && (control || c < 0x20))
            buf_addf(out, "\\u%04x", control ? control : c);
        else if (n)
            buf_add(out, text + at, n);
        else
            buf_adds(out, "\\ufffd"); /* a server may send any bytes; the line stays JSON */
    }
}

/* Text from a server must neither control the terminal nor look like a log line. */
static void plain_text(struct buf *out, const char *text)
{
    for (;;) {
        size_t line = strcspn(text, "\n");
        printable_add(out, text, line);
        if (!text[line])
            return;
        buf_adds(out, "\n    ");
        text += line + 1;
    }
}

/* The letter of a character's backslash escape; 0: it has none. */
static char letter_of(char c)
{
    switch (c) {
    case '\n':
        return 'n';
    case '\t':
        return 't';
    case '\r':
        return 'r';
    case '"':
    case '\\':
        return c;
    default:
        return 0;
    }
}

/* The same on one line. */
static void line_text(struct buf *out, const char *text, size_t len)
{
    size_t from = 0;
    for (size_t at = 0; at < len; at++) {
        if (!letter_of(text[at]))
            continue;
        printable_add(out, text + from, at - from);
        buf_addf(out, "\\%c", letter_of(text[at]));
        from = at + 1;
    }
    printable_add(out, text + from, len - from);
}

/* True when the text needs no quotes. */
static bool is_word(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c <= ' ' || c == '"' || c == '=' || c == '\\' || c == 0x7f)
            return false;
    }
    return len > 0;
}

static void stamp(const struct log *log, enum log_level level, struct buf *out)
{
    struct timespec ts;
    struct tm tm;
    char text[32];
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    int ms = (int)(ts.tv_nsec / 1000000);
    if (log->json)
        buf_addf(out, "{\"time\":\"%s.%03dZ\",\"level\":\"%s\",\"message\":\"", text, ms, level_names[level]);
    else
        buf_addf(out, "%s.%03dZ %s ", text, ms, level_labels[level]);
}

static void format_line(const struct log *log, enum log_level level, const char *text, size_t len,
                        struct buf *out)
{
    stamp(log, level, out);
    if (log->json)
        json_text(out, text, len);
    else
        plain_text(out, text);
    buf_adds(out, log->json ? "\"}\n" : "\n");
}

/* One write per line keeps the lines of several processes apart; a second write follows only when a pipe took
 * only a part. An error on stderr is ignored: it cannot be reported anywhere. */
static void write_out(int fd, const char *data, size_t len)
{
    while (len) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return;
        data += n;
        len -= (size_t)n;
    }
}

void log_write(const struct log *log, enum log_level level, const char *fmt, ...)
{
    if (!log_wants(log, level))
        return;
    char *text;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (n < 0)
        return;
    struct buf masked = {0};
    struct buf line = {0};
    if (secrets_mask(log->secrets, text, (size_t)n, &masked)) {
        format_line(log, level, masked.data ? masked.data : "", masked.len, &line);
        if (!line.oom)
            write_out(log->fd, line.data, line.len);
    }
    buf_free(&line);
    buf_free(&masked);
    free(text);
}

/* Calls `put` with the text as it may be shown. */
static void add_masked(struct log_line *line, const char *text, size_t len,
                       void (*put)(struct buf *out, const char *text, size_t len))
{
    struct buf masked = {0};
    if (secrets_mask(line->log->secrets, text, len, &masked))
        put(&line->out, masked.data ? masked.data : "", masked.len);
    else
        line->out.oom = true;
    buf_free(&masked);
}

void log_begin(struct log_line *line, const struct log *log, enum log_level level, const char *message,
               size_t len)
{
    *line = (struct log_line){.log = log};
    stamp(log, level, &line->out);
    add_masked(line, message, len, log->json ? json_text : line_text);
    if (log->json)
        buf_adds(&line->out, "\"");
}

static void add_key(struct log_line *line, const char *key)
{
    buf_addf(&line->out, line->log->json ? ",\"%s\":" : " %s=", key);
}

void log_text(struct log_line *line, const char *key, const char *text, size_t len)
{
    bool bare = !line->log->json && is_word(text, len);
    add_key(line, key);
    if (!bare)
        buf_adds(&line->out, "\"");
    add_masked(line, text, len, line->log->json ? json_text : line_text);
    if (!bare)
        buf_adds(&line->out, "\"");
}

void log_raw(struct log_line *line, const char *key, const char *value, size_t len)
{
    if (!line->log->json && !is_word(value, len)) {
        log_text(line, key, value, len);
        return;
    }
    add_key(line, key);
    buf_add(&line->out, value, len);
}

void log_milliseconds(struct log_line *line, const char *key, uint64_t ns)
{
    char text[40]; /* not with %f, whose point depends on the locale */
    uint64_t us = ns / 1000;
    int n = snprintf(text, sizeof text, "%llu.%03u", (unsigned long long)(us / 1000), (unsigned)(us % 1000));
    log_raw(line, key, text, (size_t)n);
}

void log_end(struct log_line *line)
{
    buf_adds(&line->out, line->log->json ? "}\n" : "\n");
    if (!line->out.oom)
        write_out(line->log->fd, line->out.data, line->out.len);
    buf_free(&line->out);
}
