/* The end marker in the data of a COPY. */
#include "check.h"
#include "pg/copy_end.h"

#include <stdint.h>
#include <string.h>

/* The line of a marker that data follows, for data in parts of any size; 0: there is none. */
static size_t lost_behind(bool csv, char escape, const char *data)
{
    size_t len = strlen(data), found = 0;
    for (size_t part = len; part > 0; part = part > 3 ? 3 : part - 1) {
        struct copy_end e;
        bool lost = false;
        copy_end_begin(&e, csv, '"', escape);
        for (size_t at = 0; at < len && !lost; at += part)
            lost = !copy_end_feed(&e, data + at, len - at < part ? len - at : part);
        size_t line = lost ? e.line : 0;
        CHECK(part == len || line == found);
        found = line;
    }
    return found;
}

static void check(const char *data, size_t text, size_t csv)
{
    if (lost_behind(false, '\0', data) != text || lost_behind(true, '"', data) != csv)
        fprintf(stderr, "data: %s\n", data);
    CHECK_EQ(lost_behind(false, '\0', data), text);
    CHECK_EQ(lost_behind(true, '"', data), csv);
}

static void test_lost(void)
{
    check("a\n\\.\nb\n", 2, 2);
    check("\\.\nb", 1, 1);
    check("a\r\n\\.\r\nb\r\n", 2, 2);
    check("a\r\\.\rb\r", 2, 2);
    check("\n\n\\.\n\n\nb", 3, 3);
    check("a\\.\nb", 1, 0); /* in text the line before the marker counts */
    check("\"a\n\"\n\\.\nb\n", 3, 3);
}

static void test_kept(void)
{
    check("", 0, 0);
    check("a\n\\.\n", 0, 0);
    check("a\n\\.", 0, 0);
    check("a\r\n\\.\r\n\n", 0, 0);
    check("a\n\\\\.\nb\n", 0, 0);
    check("a\n\\.b\nc\n", 0, 0);
    check("a\n\"\\.\"\nb\n", 0, 0);
    check("\"a\n\\\\.\nb\"\nc\n", 0, 0);
}

static void test_quotes(void)
{
    CHECK_EQ(lost_behind(true, '"', "\"a\n\\.\nb\"\nc\n"), 0);
    CHECK_EQ(lost_behind(true, '"', "\"a\"\"\n\\.\nb\"\nc\n"), 0);
    CHECK_EQ(lost_behind(true, '\\', "\"a\\\"\n\\.\nb\"\nc\n"), 0);
    CHECK_EQ(lost_behind(true, '\\', "\"a\\\\\"\n\\.\nb\n"), 2);
}

/* The same in parts of any size: lost_behind compares. Lines end in one way. */
static void test_random(void)
{
    static const char *const alphabets[] = {"\\\\\\..\n\n\"'a", "\\\\\\..\r\r\"'a"};
    uint32_t seed = 7;
    for (int round = 0; round < 20000; round++) {
        const char *alphabet = alphabets[round / 3 % 2];
        char data[16] = "";
        for (size_t i = 0; i < sizeof data - 1; i++) {
            seed = seed * 1664525 + 1013904223;
            data[i] = alphabet[(seed >> 16) % strlen(alphabet)];
        }
        lost_behind(round % 3 != 0, round % 3 == 1 ? '"' : '\'', data);
    }
}

int main(void)
{
    TEST("data after a marker is found, with the marker's line", test_lost);
    TEST("text that is not a marker, or a marker without data after it, is not found", test_kept);
    TEST("a marker in quotes is a value", test_quotes);
    TEST("parts of any size give the same result", test_random);
    return check_end("pg_copy_end");
}
