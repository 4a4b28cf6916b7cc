#include "io/stream.h"

#include "io/poll.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <stdio_ext.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the FILE's own buffer ---- */

#ifdef __GLIBC__

/* The bytes that can be taken without read(2). ungetc may have put some into a second buffer (this flag of
 * glibc's is not in its headers); when they are used up, the first buffer's come next. */
static size_t bytes_ahead(const FILE *file)
{
    enum { IN_SECOND_BUFFER = 0x100 };
    if (file->_IO_read_ptr < file->_IO_read_end)
        return (size_t)(file->_IO_read_end - file->_IO_read_ptr);
    return file->_flags & IN_SECOND_BUFFER ? (size_t)(file->_IO_save_end - file->_IO_save_base) : 0;
}

/* The length of the line that the FILE's buffer holds completely; 0 = none. */
static size_t line_ahead(const FILE *file, size_t max)
{
    size_t n = (size_t)(file->_IO_read_end - file->_IO_read_ptr);
    const char *end = n > 0 ? memchr(file->_IO_read_ptr, '\n', n < max ? n : max) : NULL;
    return end != NULL ? (size_t)(end + 1 - file->_IO_read_ptr) : 0;
}

#else

static size_t bytes_ahead(FILE *file)
{
    return __freadahead(file);
}

static size_t line_ahead(FILE *file, size_t max)
{
    (void)file;
    (void)max;
    return 0;
}

#endif

size_t stream_short_line(struct stream *s, char *out, size_t size)
{
    size_t len = s->taken.len == 0 ? line_ahead(s->file, size) : 0;
    return len > 0 ? fread(out, 1, len, s->file) : 0;
}

bool stream_read_exactly(FILE *file)
{
    return bytes_ahead(file) == 0 && setvbuf(file, NULL, _IONBF, 0) == 0;
}

bool stream_may_wait(FILE *file)
{
    struct stat st;
    int fd = fileno(file);
    if (fd < 0 || !__freadable(file) || fstat(fd, &st) != 0)
        return false;
    if (S_ISCHR(st.st_mode) ? !isatty(fd) : !S_ISFIFO(st.st_mode) && !S_ISSOCK(st.st_mode))
        return false;
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && (flags & O_ACCMODE) != O_WRONLY;
}

/* ---- taking ---- */

/* Makes sure that the FILE has a byte, by one read(2) that does not wait. NONE: the input has ended. */
static enum stream_status fill(struct stream *s)
{
    if (bytes_ahead(s->file) > 0)
        return STREAM_DONE;
    if (s->ended)
        return STREAM_NONE;
    if (s->reads == 0 || !io_poll_readable(fileno(s->file)))
        return STREAM_WAIT;
    s->reads--;
    errno = 0;
    int c = getc(s->file);
    if (c != EOF)
        return ungetc(c, s->file) == c ? STREAM_DONE : STREAM_OOM;
    int reason = errno;
    if (ferror(s->file) && (reason == EAGAIN || reason == EINTR)) { /* another process took it; a signal */
        clearerr(s->file);
        return STREAM_WAIT;
    }
    s->error = ferror(s->file) ? reason : 0;
    s->ended = true;
    return STREAM_NONE;
}

/* Takes at most `max` of the bytes that the FILE has; `line`: only up to the end of a line. */
static enum stream_status take(struct stream *s, size_t max, bool line)
{
    size_t n = bytes_ahead(s->file);
    if (n > max)
        n = max;
    if (!buf_reserve(&s->taken, n))
        return STREAM_OOM;
    char *at = s->taken.data + s->taken.len;
    if (line) {
        size_t i = 0;
        while (i < n && (at[i++] = (char)getc_unlocked(s->file)) != '\n')
            ;
        n = i;
    } else {
        n = fread(at, 1, n, s->file);
    }
    at[n] = '\0';
    s->taken.len += n;
    return STREAM_DONE;
}

/* The status of the value when no more bytes come. */
static enum stream_status ended_with(const struct stream *s)
{
    return s->taken.len > s->start ? STREAM_DONE : STREAM_NONE;
}

enum stream_status stream_line(struct stream *s)
{
    for (;;) {
        size_t rest = s->taken.len - s->seen;
        const char *end = rest > 0 ? memchr(s->taken.data + s->seen, '\n', rest) : NULL;
        s->seen = end ? (size_t)(end + 1 - s->taken.data) : s->taken.len;
        if (end)
            return STREAM_DONE;
        enum stream_status status = fill(s);
        if (status == STREAM_DONE)
            status = take(s, SIZE_MAX, true);
        if (status == STREAM_NONE)
            return ended_with(s);
        if (status != STREAM_DONE)
            return status;
    }
}

enum stream_status stream_block(struct stream *s, size_t max)
{
    for (;;) {
        size_t have = s->taken.len - s->start;
        s->seen = s->start + (have < max ? have : max);
        if (have >= max && max > 0)
            return STREAM_DONE;
        if (max == 0 && have > 0)
            return STREAM_DONE;
        enum stream_status status = fill(s);
        if (status == STREAM_DONE && max == 0)
            return STREAM_DONE;
        if (status == STREAM_DONE)
            status = take(s, max - have, false);
        if (status == STREAM_NONE)
            return ended_with(s);
        if (status != STREAM_DONE)
            return status;
    }
}

enum stream_status stream_all(struct stream *s)
{
    enum stream_status status = stream_block(s, SIZE_MAX);
    return status == STREAM_NONE ? STREAM_DONE : status;
}

/* ---- numerals, as read_number of Lua's liolib.c takes them ---- */

struct numeral {
    struct stream *s;
    char *text;
    size_t len;
    int c; /* the next byte, EOF at the end */
    enum stream_status status;
};

/* Looks at the next byte. When none is there yet, the numeral is read again from its start later. */
static void look(struct numeral *n)
{
    struct stream *s = n->s;
    n->c = EOF;
    if (n->status != STREAM_DONE)
        return;
    if (s->seen == s->taken.len) {
        enum stream_status status = fill(s);
        if (status == STREAM_DONE)
            status = take(s, 1, false);
        if (status == STREAM_NONE)
            return;
        n->status = status;
        if (status != STREAM_DONE)
            return;
    }
    n->c = (unsigned char)s->taken.data[s->seen];
}

/* Appends the byte that was looked at to the text. */
static bool accept(struct numeral *n)
{
    if (n->len >= STREAM_NUMERAL) {
        n->text[0] = '\0'; /* too long: no numeral */
        return false;
    }
    n->text[n->len++] = (char)n->c;
    n->s->seen++;
    look(n);
    return true;
}

static bool accept_one_of(struct numeral *n, const char set[2])
{
    return n->c != EOF && (n->c == (unsigned char)set[0] || n->c == (unsigned char)set[1]) && accept(n);
}

static int accept_digits(struct numeral *n, bool hex)
{
    int count = 0;
    while (n->c != EOF && (hex ? isxdigit(n->c) : isdigit(n->c)) && accept(n))
        count++;
    return count;
}

enum stream_status stream_numeral(struct stream *s, char text[STREAM_NUMERAL + 1])
{
    struct numeral n = {.s = s, .text = text, .status = STREAM_DONE};
    const char point[2] = {localeconv()->decimal_point[0], '.'};
    bool hex = false;
    int count = 0;
    memset(text, 0, STREAM_NUMERAL + 1);
    s->seen = s->start;
    for (look(&n); n.c != EOF && isspace(n.c); look(&n))
        s->start = ++s->seen;
    accept_one_of(&n, "-+");
    if (accept_one_of(&n, "00")) {
        if (accept_one_of(&n, "xX"))
            hex = true;
        else
            count = 1;
    }
    count += accept_digits(&n, hex);
    if (accept_one_of(&n, point))
        count += accept_digits(&n, hex);
    if (count > 0 && accept_one_of(&n, hex ? "pP" : "eE")) {
        accept_one_of(&n, "-+");
        accept_digits(&n, false);
    }
    return n.status;
}

/* ---- between values and reads ---- */

/* A block up to this size is kept for the next read. */
enum { KEPT = 4096 };

/* Puts back everything after the first `keep` bytes. Only when out of memory it does not fit; the bytes then
 * stay. */
static bool put_back(struct stream *s, size_t keep)
{
    while (s->taken.len > keep && ungetc((unsigned char)s->taken.data[s->taken.len - 1], s->file) != EOF)
        s->taken.len--;
    return s->taken.len == keep;
}

void stream_begin(struct stream *s)
{
    clearerr(s->file); /* a terminal can be read again after Ctrl-D */
    s->taken.oom = false;
    s->start = s->seen = 0;
    s->error = 0;
    s->ended = false;
}

void stream_next(struct stream *s)
{
    s->start = s->seen;
}

void stream_settle(struct stream *s)
{
    put_back(s, s->seen);
    buf_consume(&s->taken, s->seen);
    s->start = s->seen = 0;
    if (s->taken.len == 0 && s->taken.cap > KEPT)
        buf_free(&s->taken);
}

void stream_give_up(struct stream *s)
{
    s->start = s->seen = 0;
    if (put_back(s, 0))
        buf_free(&s->taken);
}

bool stream_lend(struct stream *s)
{
    s->seen = s->start;
    return put_back(s, s->start);
}
