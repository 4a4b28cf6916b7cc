/* Numbers and ASCII words as text, in any locale. */
#include "base/number.h"
#include "check.h"

#include <stdint.h>
#include <string.h>

static void test_format(void)
{
    static const struct {
        double v;
        const char *text;
    } cases[] = {{1.5, "1.5"},
                 {0.1, "0.1"},
                 {0.1 + 0.2, "0.30000000000000004"},
                 {-0.0, "-0"},
                 {1e300, "1e+300"},
                 {5e-324, "4.94065645841247e-324"},
                 {123456789012345.0, "123456789012345"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[NUMBER_MAX];
        CHECK(number_format(text, cases[i].v) == strlen(text));
        CHECK_STR(text, cases[i].text);
        CHECK(number_parse(text, NULL) == cases[i].v);
    }
}

static void test_parse_int(void)
{
    static const struct {
        const char *text;
        bool ok;
        int64_t v;
    } cases[] = {{"0", true, 0},
                 {"-7", true, -7},
                 {"+7", true, 7},
                 {"9223372036854775807", true, INT64_MAX},
                 {"-9223372036854775808", true, INT64_MIN},
                 {"9223372036854775808", false, 0},
                 {"-9223372036854775809", false, 0},
                 {"", false, 0},
                 {"-", false, 0},
                 {"1a", false, 0},
                 {" 1", false, 0},
                 {"1.0", false, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t v = 0;
        CHECK(number_parse_int(cases[i].text, &v) == cases[i].ok);
        CHECK(v == cases[i].v);
        CHECK(number_int(cases[i].text) == cases[i].v);
    }
}

static void test_words(void)
{
    CHECK(ascii_is_word("NuLL", 4, "null"));
    CHECK(!ascii_is_word("nulls", 5, "null"));
    CHECK(!ascii_is_word("nul", 3, "null"));
    CHECK(ascii_begins("COMMIT;", "commit", 6));
    CHECK(!ascii_begins("com", "commit", 6));
    CHECK(!ascii_is_alpha('\xe4') && !ascii_is_digit('/') && !ascii_is_space('\xa0') && ascii_is_space('\v'));
    CHECK(ascii_upper('z') == 'Z' && ascii_upper('\xe4') == '\xe4' && ascii_lower('A') == 'a');
}

int main(void)
{
    TEST("a float is written with the fewest digits that read back as the same value", test_format);
    TEST("an integer is read if it is one, and fits", test_parse_int);
    TEST("only ASCII letters are letters", test_words);
    return check_end("number");
}
