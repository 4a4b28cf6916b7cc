#include "trace/line.h"

#include "base/printable.h"
#include "base/text.h"

/* The number of digits of a number above 0. */
static unsigned digits_of(uint64_t n)
{
    static const uint64_t powers[] = {1,
                                      10,
                                      100,
                                      1000,
                                      10000,
                                      100000,
                                      1000000,
                                      10000000,
                                      100000000,
                                      1000000000,
                                      10000000000,
                                      100000000000,
                                      1000000000000,
                                      10000000000000,
                                      100000000000000,
                                      1000000000000000,
                                      10000000000000000,
                                      100000000000000000,
                                      1000000000000000000,
                                      10000000000000000000U};
    unsigned least = (64 - (unsigned)__builtin_clzll(n)) * 1233 >> 12; /* 1233 / 4096 is the logarithm of 2 */
    return least + (n >= powers[least]);
}

char *line_long_number(char *at, uint64_t n)
{
    static const char pairs[] =
        "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
        "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
        "8081828384858687888990919293949596979899";
    char *end = at + digits_of(n);
    char *p = end;
    for (; n >= 100; n /= 100)
        memcpy(p -= 2, pairs + n % 100 * 2, 2);
    if (n >= 10)
        memcpy(p - 2, pairs + n * 2, 2);
    else
        p[-1] = (char)('0' + n);
    return end;
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
