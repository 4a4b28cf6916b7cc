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

static void json_text(struct buf *out, const char *text)
{
    while (*text) {
        unsigned char c = (unsigned char)*text;
        size_t n = utf8_len(text, SIZE_MAX);
        if (c == '"' || c == '\\')
            buf_addf(out, "\\%c", c);
        else if (n && printable_control(text, n))
            buf_addf(out, "\\u%04x", printable_control(text, n));
        else if (n)
            buf_add(out, text, n);
        else
            buf_adds(out, "\\ufffd"); /* a server may send any bytes; the line stays JSON */
        text += n ? n : 1;
    }
}

/* Text from a server must neither control the terminal nor look like a log line of its own. */
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

static void format_line(const struct log *log, enum log_level level, const char *text, struct buf *out)
{
    struct timespec ts;
    struct tm tm;
    char stamp[32];
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &tm);
    int ms = (int)(ts.tv_nsec / 1000000);
    if (!log->json) {
        buf_addf(out, "%s.%03dZ %s ", stamp, ms, level_labels[level]);
        plain_text(out, text);
        buf_adds(out, "\n");
        return;
    }
    buf_addf(out, "{\"time\":\"%s.%03dZ\",\"level\":\"%s\",\"message\":\"", stamp, ms, level_names[level]);
    json_text(out, text);
    buf_adds(out, "\"}\n");
}

/* One write per line keeps the lines of several processes apart; a second write follows only when a pipe took
 * a part. An error on stderr is ignored: it cannot be reported anywhere. */
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
        format_line(log, level, masked.data ? masked.data : "", &line);
        if (!line.oom)
            write_out(log->fd, line.data, line.len);
    }
    buf_free(&line);
    buf_free(&masked);
    free(text);
}
