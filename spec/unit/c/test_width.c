/* Widths of texts on a terminal. */
#include "base/buf.h"
#include "base/printable.h"
#include "base/width.h"
#include "check.h"

#include <stdlib.h>
#include <string.h>

static size_t columns(const char *text)
{
    return width_of(text, strlen(text));
}

static void test_characters(void)
{
    CHECK(columns("") == 0);
    CHECK(columns("Ada Lovelace ~") == 14);
    CHECK(columns("\u00e9\u00df\u00ad") == 3);    /* a soft hyphen is visible */
    CHECK(columns("\u65e5\u672c") == 4);          /* East Asian wide */
    CHECK(columns("\uff21\uff71") == 3);          /* fullwidth A, halfwidth katakana */
    CHECK(columns("\u4dc0\U0002fffd") == 3);      /* a hexagram; unassigned, in a plane that is wide */
    CHECK(columns("e\u0301\u0302x") == 2);        /* combining marks */
    CHECK(columns("\u1112\u1161\u11ab") == 2);    /* one syllable of Hangul */
    CHECK(columns("a\u200bb\u2060c\u200d") == 3); /* characters without width */
    CHECK(columns("\u0600") == 1);
}

static void test_emoji(void)
{
    CHECK(columns("\U0001f600") == 2);
    CHECK(columns("\u2764") == 1 && columns("\u2764\ufe0f") == 2); /* text, emoji presentation */
    CHECK(columns("1\ufe0f\u20e3") == 2);
    CHECK(columns("a\ufe0f") == 1);
    CHECK(columns("\U0001f44d\U0001f3fd") == 2);                       /* a colour of skin */
    CHECK(columns("\U0001f600\U0001f3fd") == 4);                       /* not a modifier of this emoji */
    CHECK(columns("\U0001f468\u200d\U0001f469\u200d\U0001f467") == 2); /* joined */
    CHECK(columns("\U0001f468\u200d\u2764\ufe0f\u200d\U0001f468") == 2);
    CHECK(columns("\U0001f468\u200dx") == 3);
    CHECK(columns("\U0001f1e9\U0001f1ea") == 2 && columns("\U0001f1e9") == 1); /* a flag */
    CHECK(columns("\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7") == 4);
}

/* The printed form of `text` has the computed width. */
static size_t escaped(const char *text, size_t len)
{
    struct buf out = {0};
    CHECK(printable_line_add(&out, text, len));
    size_t own = width_of(text, len);
    CHECK(own == width_of(out.data, out.len));
    buf_free(&out);
    return own;
}

static void test_escapes(void)
{
    CHECK(escaped("\x1b[2J", 4) == 7);
    CHECK(escaped("\n\r\t", 3) == 6);
    CHECK(escaped("a\0b", 3) == 6);
    CHECK(escaped("\x7f", 1) == 4);
    CHECK(escaped("\xc2\x9b", 2) == 6);
    CHECK(escaped("\u202e\u2066\u2028\ufeff", 12) == 24);
    CHECK(escaped("\xff", 1) == 4);
    CHECK(escaped("\xed\xa0\x80", 3) == 12); /* a surrogate */
    CHECK(escaped("\xe6\x97", 2) == 8);      /* half of a character */
    CHECK(escaped("a\xc3", 2) == 5);
}

/* Any bytes: the pieces add up to the whole, and a cut text is never wider than allowed. */
static void test_random(void)
{
    static const char *const parts[] = {"a",          "\u65e5",     "\u0301", "\u200d", "\ufe0f",
                                        "\U0001f468", "\U0001f3fd", "\xff",   "\x1b",   "\u2764",
                                        "\U0001f1e9", "\xf0\x9f",   "\u202e", "\n"};
    for (int round = 0; round < 2000; round++) {
        char text[64];
        size_t len = 0;
        for (int i = rand() % 12; i > 0; i--) {
            const char *part = parts[(size_t)rand() % (sizeof parts / sizeof *parts)];
            memcpy(text + len, part, strlen(part));
            len += strlen(part);
        }
        size_t whole = escaped(text, len), sum = 0;
        for (size_t at = 0, own; at < len; sum += own) {
            size_t n = width_next(text + at, len - at, &own);
            CHECK(n > 0 && n <= len - at);
            at += n;
        }
        CHECK(sum == whole);
        for (size_t most = 0; most <= whole; most++) {
            size_t own, n = width_fit(text, len, most, &own);
            CHECK(own <= most && n <= len && width_of(text, n) == own);
            CHECK(most < whole || n == len);
        }
    }
}

static void test_fit(void)
{
    size_t own;
    CHECK(width_fit("\u65e5\u672c", 6, 3, &own) == 3 && own == 2);
    CHECK(width_fit("ae\u0301bc", 6, 2, &own) == 4 && own == 2); /* with its mark */
    CHECK(width_fit("a\x1b", 2, 4, &own) == 1 && own == 1);      /* not within an escape */
    CHECK(width_fit("", 0, 0, &own) == 0 && own == 0);
}

int main(void)
{
    TEST("characters have the widths that Unicode defines", test_characters);
    TEST("an emoji takes two columns, with all its modifiers", test_emoji);
    TEST("an escaped byte has the width of its escape", test_escapes);
    TEST("a cut text is never wider than allowed", test_random);
    TEST("no character is cut in two", test_fit);
    return check_end("width");
}
