#include "base/printable.h"

#include "base/text.h"

unsigned printable_control(const char *text, size_t n)
{
    const unsigned char *s = (const unsigned char *)text;
    unsigned code = s[0];
    if (n == 1)
        return code < 0x20 || code == 0x7f ? code : 0;
    if (n == 2)
        code = (s[0] & 0x1fu) << 6 | (s[1] & 0x3fu);
    else if (n == 3)
        code = (s[0] & 0x0fu) << 12 | (s[1] & 0x3fu) << 6 | (s[2] & 0x3fu);
    bool is = (code >= 0x80 && code <= 0x9f) || code == 0x61c || code == 0x200e || code == 0x200f ||
              (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069) || code == 0xfeff;
    return is && n < 4 ? code : 0;
}

/* The number of bytes at the start of `text` that are printed unchanged. */
static size_t plain_bytes(const char *text, size_t len, bool one_line)
{
    size_t i = 0;
    while (i < len) {
        size_t n = utf8_len(text + i, len - i);
        bool kept = !one_line && (text[i] == '\n' || text[i] == '\t');
        if (n == 0 || text[i] == '\0' || (!kept && printable_control(text + i, n)))
            break;
        i += n;
    }
    return i;
}

static void add_escape(struct buf *out, const char *text, size_t n, bool one_line)
{
    if (n > 1)
        buf_addf(out, "\\u%04x", printable_control(text, n));
    else if (one_line && text[0] == '\n')
        buf_adds(out, "\\n");
    else if (one_line && text[0] == '\t')
        buf_adds(out, "\\t");
    else if (one_line && text[0] == '\r')
        buf_adds(out, "\\r");
    else
        buf_addf(out, "\\x%02x", (unsigned char)text[0]);
}

static bool add(struct buf *out, const char *text, size_t len, bool one_line)
{
    const char *end = text + len;
    while (text < end) {
        size_t n = plain_bytes(text, (size_t)(end - text), one_line);
        buf_add(out, text, n);
        text += n;
        if (text == end)
            break;
        n = utf8_len(text, (size_t)(end - text));
        add_escape(out, text, n, one_line);
        text += n > 1 ? n : 1;
    }
    return !out->oom;
}

bool printable_add(struct buf *out, const char *text, size_t len)
{
    return add(out, text, len, false);
}

bool printable_line_add(struct buf *out, const char *text, size_t len)
{
    return add(out, text, len, true);
}
