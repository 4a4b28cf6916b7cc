#include "trace/line.h"

#include "base/printable.h"
#include "base/text.h"

char *line_number(char *at, uint64_t n)
{
    char digits[20];
    char *p = digits + sizeof digits;
    do
        *--p = (char)('0' + n % 10);
    while ((n /= 10) > 0);
    return line_put(at, p, (size_t)(digits + sizeof digits - p));
}

char *line_word(char *at, const char *word)
{
    return line_put(at, word, strlen(word));
}

bool line_json(struct buf *out, const char *text, size_t len)
{
    bool ok = true;
    for (size_t n, at = 0; ok && at < len; at += n ? n : 1) {
        unsigned char c = (unsigned char)text[at];
        n = utf8_len(text + at, len - at);
        unsigned control = n ? printable_control(text + at, n) : 0;
        if (c == '"' || c == '\\')
            ok = buf_addf(out, "\\%c", c);
        else if (n && (control || c < 0x20 || c == '<'))
            ok = buf_addf(out, "\\u%04x", control ? control : c);
        else if (n)
            ok = buf_add(out, text + at, n);
        else
            ok = buf_adds(out, "\\ufffd");
    }
    return ok;
}
