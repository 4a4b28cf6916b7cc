/* UTF-8 and hexadecimal digits. */
#include "base/printable.h"
#include "base/text.h"
#include "check.h"

#include <stdint.h>
#include <string.h>

/* Encodes `code` in `len` bytes, even when that is not its valid form. */
static void write_code(char *out, uint32_t code, size_t len)
{
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = len; i-- > 1; code >>= 6)
        out[i] = (char)(0x80 | (code & 0x3f));
    out[0] = (char)(lead[len] | code);
}

static size_t right_len(uint32_t code)
{
    return code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
}

static void test_utf8_every_code(void)
{
    static const uint32_t most[] = {0, 0x7f, 0x7ff, 0xffff, 0x1fffff};
    uint32_t wrong = 0;
    for (size_t len = 1; len <= 4; len++) {
        for (uint32_t code = 0; code <= most[len]; code++) {
            char text[5] = {0};
            bool real = right_len(code) == len && code <= 0x10ffff && !(code >= 0xd800 && code <= 0xdfff);
            write_code(text, code, len);
            wrong += utf8_len(text, len) != (real ? len : 0);
            wrong += utf8_len(text, SIZE_MAX) != (real ? len : 0);
            wrong += utf8_is_valid(text, len) != real;
            wrong += real && utf8_len(text, len - 1) != 0;
        }
    }
    CHECK_EQ(wrong, 0);
}

static void test_utf8_broken(void)
{
    CHECK_EQ(utf8_len("", 0), 0);
    CHECK_EQ(utf8_len("\x80", 1), 0);
    CHECK_EQ(utf8_len("\xbf\xbf", 2), 0);
    for (int lead = 0xf5; lead <= 0xff; lead++) {
        char text[] = {(char)lead, (char)0x80, (char)0x80, (char)0x80, 0};
        CHECK_EQ(utf8_len(text, 4), 0);
    }
    CHECK_EQ(utf8_len("\xe6\x97", SIZE_MAX), 0); /* ends at the NUL */
    CHECK_EQ(utf8_len("\xe6\x97\x41", 3), 0);
    CHECK_EQ(utf8_len("\xf0\x9f\x98\xc0", 4), 0);
}

static void test_utf8_text(void)
{
    static const char text[] = "gr\xc3\xb6\xc3\x9f"
                               "e\0\xe6\x97\xa5\xf0\x9f\x98\x80.";
    CHECK(utf8_is_valid("", 0));
    CHECK(utf8_is_valid(text, sizeof text - 1));
    CHECK(!utf8_is_valid(text, 3));
    CHECK(!utf8_is_valid(text, sizeof text - 3));
    CHECK(!utf8_is_valid("a\xff", 2));
}

/* An invalid byte, and a character, at any place in an ASCII text of any length and alignment. */
static void test_utf8_in_ascii(void)
{
    char text[40];
    for (size_t from = 0; from < 8; from++) {
        for (size_t len = 1; len <= 30; len++) {
            memset(text, 'a', sizeof text);
            text[from + len] = '\xff'; /* not part of it */
            CHECK(utf8_is_valid(text + from, len));
            for (size_t at = 0; at < len; at++) {
                text[from + at] = '\xff';
                CHECK(!utf8_is_valid(text + from, len));
                if (at > 0) {
                    memcpy(text + from + at - 1, "\xc3\xa4", 2);
                    CHECK(utf8_is_valid(text + from, len));
                    text[from + at - 1] = 'a';
                }
                text[from + at] = 'a';
            }
        }
    }
}

static void test_hex_digit(void)
{
    static const char digits[] = "0123456789abcdef";
    static const char upper[] = "0123456789ABCDEF";
    for (int c = -128; c < 128; c++) {
        const char *at = c ? strchr(digits, (char)c) : NULL;
        const char *big = c ? strchr(upper, (char)c) : NULL;
        CHECK_EQ(hex_digit((char)c), at ? at - digits : big ? big - upper : -1);
    }
}

static void test_hex_write(void)
{
    char out[11] = "..........";
    hex_write(out, "\x00\x0a\xff\x7f", 4);
    CHECK_STR(out, "000aff7f..");
    hex_write(out, "x", 0);
    CHECK_STR(out, "000aff7f..");
}

static void printed(const char *text, size_t len, const char *expected)
{
    struct buf b = {0};
    CHECK(printable_add(&b, text, len));
    CHECK_STR(b.data ? b.data : "", expected);
    buf_free(&b);
}

static void test_printable(void)
{
    printed("", 0, "");
    printed("a\tb\n", 4, "a\tb\n");
    printed("\x1b[2J\r\x7f", 6, "\\x1b[2J\\x0d\\x7f");
    printed("a\0b", 3, "a\\x00b");
    printed("\xc2\x9b\xc2\xa0", 4, "\\u009b\xc2\xa0");
    printed("\xe2\x80\xae\xe2\x81\xa6\xe2\x82\xac", 9, "\\u202e\\u2066\xe2\x82\xac");
    printed("\xe2\x80\x8e\xe2\x80\x8f\xd8\x9c", 8, "\\u200e\\u200f\\u061c");
    printed("\xe2\x80\xa8\xe2\x80\xa9\xef\xbb\xbf\xe2\x80\x8d", 12, "\\u2028\\u2029\\ufeff\xe2\x80\x8d");
    printed("\xe2\x82", 2, "\\xe2\\x82");
    printed("\xf0\x9f\x98\x80\xff", 5, "\xf0\x9f\x98\x80\\xff");
}

int main(void)
{
    TEST("every code is accepted in its shortest form, and in no other", test_utf8_every_code);
    TEST("a byte that begins no character, and an incomplete character, are invalid", test_utf8_broken);
    TEST("a text is valid when all of it is", test_utf8_text);
    TEST("one invalid byte in a long ASCII text is found", test_utf8_in_ascii);
    TEST("a hexadecimal digit has a value in either case", test_hex_digit);
    TEST("control characters are escaped", test_printable);
    TEST("bytes become lower-case digits", test_hex_write);
    return check_end("text");
}
