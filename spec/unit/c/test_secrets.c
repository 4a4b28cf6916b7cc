/* Output of the program: secrets are masked, log lines stay single lines. */
#include "base/log.h"
#include "base/secrets.h"
#include "check.h"

#include <unistd.h>

/* `text` as the program prints it; valid until the next call. NULL secret = mask by place only. */
static const char *masked(const char *secret, const char *text)
{
    static struct buf out;
    struct secrets *s = secrets_new();
    buf_clear(&out);
    CHECK(s && secrets_add(s, secret ? secret : "never-in-any-text", secret ? strlen(secret) : 17));
    CHECK(secrets_mask(s, text, strlen(text), &out));
    secrets_free(s);
    return out.data ? out.data : "";
}

#define SHOWS(secret, text, want) CHECK_STR(masked(secret, text), want)

/* ---- known secrets ---- */

static void test_known(void)
{
    SHOWS("hunter22", "hunter22", "***");
    SHOWS("hunter22", "it was hunter22, and hunter22hunter22 again", "it was ***, and ****** again");
    SHOWS("hunter22", "hunter2", "hunter2");
    SHOWS("hunter22", "", "");
    SHOWS("abc", "abcdef", "abcdef"); /* too short to hide anything */
}

/* Every byte with a special meaning in URLs, keyword strings and SQL. */
static const char awkward[] = "p@s/s:w%41o#r'd\\ \xc3\xa9x";

static void test_awkward_raw(void)
{
    char text[128];
    snprintf(text, sizeof text, "before %s after", awkward);
    SHOWS(awkward, text, "before *** after");
}

static void test_percent_encoded(void)
{
    /* by any encoder: every byte or only the reserved ones, digits in lower or upper case */
    SHOWS(awkward, "token \"p%40s%2Fs%3Aw%2541o%23r%27d%5C%20%C3%A9x\"", "token \"***\"");
    SHOWS(awkward, "p%40s%2fs%3aw%2541o%23r%27d%5c%20%c3%a9x!", "***!");
    SHOWS(awkward, "%70@s/s:w%2541o#r'd\\ \xc3\xa9x", "***");
    SHOWS("100%sure", "100%sure 100%25sure", "*** ***");
}

static void test_escaped(void)
{
    SHOWS(awkward, "password is 'p@s/s:w%41o#r\\'d\\\\ \xc3\xa9x'", "password is '***'");
    SHOWS("say \"hi\"", "{\"was\":\"say \\\"hi\\\"\"}", "{\"was\":\"***\"}");
    SHOWS("it's mine", "alter role r with encrypted 'it''s mine';", "alter role r with encrypted '***';");
}

static void test_longest(void)
{
    static struct buf out;
    struct secrets *s = secrets_new();
    CHECK(secrets_add(s, "swordfish", 9) && secrets_add(s, "swordfish-and-more", 18) &&
          secrets_add(s, "and-more", 8));
    CHECK(secrets_add(s, "swordfish", 9));
    const char text[] = "swordfish-and-more swordfish and-more";
    CHECK(secrets_mask(s, text, sizeof text - 1, &out));
    CHECK_STR(out.data, "*** *** ***");
    buf_free(&out);
    secrets_free(s);
}

static void test_small_words(void)
{
    SHOWS("test", "the latest test of testing", "the latest *** of testing");
    SHOWS("test", "user=test;'test' test", "user=***;'***' ***");
    SHOWS("Test", "theTestx", "the***x"); /* not a plain word: everywhere */
    SHOWS("elephants", "xelephantsx", "x***x");
}

static void test_bytes(void)
{
    static struct buf out;
    struct secrets *s = secrets_new();
    CHECK(secrets_add(s, "a\0b\xff", 4));
    CHECK(secrets_mask(s, "x\0a\0b\xffy", 7, &out));
    CHECK_EQ(out.len, 6);
    CHECK(out.data && memcmp(out.data, "x\0***y", 6) == 0);
    buf_free(&out);
    secrets_free(s);
}

static void test_no_secrets(void)
{
    struct buf out = {0};
    CHECK(secrets_mask(NULL, "password=x y", 12, &out));
    CHECK_STR(out.data, "password=*** y");
    buf_free(&out);
    secrets_free(NULL);
}

/* ---- URLs ---- */

static void test_url(void)
{
    SHOWS(NULL, "postgresql://u:secret@h:5432/d?x=1", "postgresql://u:***@h:5432/d?x=1");
    SHOWS(NULL, "redis://:secret@h/0", "redis://:***@h/0");
    SHOWS(NULL, "cannot use postgres+asyncpg://u:s%40x@h/d, sorry",
          "cannot use postgres+asyncpg://u:***@h/d, sorry");
    SHOWS(NULL, "a://u:x@h and b://v:y@i.", "a://u:***@h and b://v:***@i.");
    SHOWS(NULL, "'a://u:x@h/d' \"b://v:y@i\"", "'a://u:***@h/d' \"b://v:***@i\"");
}

static void test_url_not_encoded(void)
{
    SHOWS(NULL, "x://u:p@ss@h/d", "x://u:***@h/d");
    SHOWS(NULL, "x://u:p/a?s#s@h/d end", "x://u:***@h/d end");
    SHOWS(NULL, "x://u:p:a%s\\s@h/d end", "x://u:***@h/d end");
    SHOWS(NULL, "x://u:it's@h/d end", "x://u:***@h/d end");
    SHOWS(NULL, "'x://u:p@a's@h/d' end", "'x://u:***@h/d' end");
    SHOWS(NULL, "x://u:two words@h/d end", "x://u:***@h/d end");
    SHOWS(NULL, "x://u:p://q@h/d end", "x://u:***@h/d end");
    SHOWS(NULL, "x://u:s\xc3\xa9\xc3\xa9@h/d end", "x://u:***@h/d end");
}

static void test_url_without(void)
{
    static const char *const texts[] = {
        "http://example.com/a?b=c@d",
        "redis://127.0.0.1:6379/0 refused, ask me@example.com",
        "redis://[::1]:6379/0 a@b",
        "postgres://u@h:5432/d",
        "postgres://u:@h/d",
        "postgres:///d?host=/tmp",
        "x://a:5432,b:5433/d me@home",
        "://",
        "see x://y:",
        "x://h:5432",
        "'redis://h:6379' is a@b",
        "user@host: no such thing",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        SHOWS(NULL, texts[i], texts[i]);
}

/* ---- keywords ---- */

static void test_keyword(void)
{
    SHOWS(NULL, "host=h password=secret user=u", "host=h password=*** user=u");
    SHOWS(NULL, "password = secret user=u", "password = *** user=u");
    SHOWS(NULL, "password='two words' user=u", "password=*** user=u");
    SHOWS(NULL, "password='it\\'s' user=u", "password=*** user=u");
    SHOWS(NULL, "password=a\\ b user=u", "password=*** user=u");
    SHOWS(NULL, "password=a&b'c\"d user=u", "password=*** user=u");
    SHOWS(NULL, "POSTGRES_PASSWORD=secret", "POSTGRES_PASSWORD=***");
    SHOWS(NULL, "sslpassword=secret x", "sslpassword=*** x");
    SHOWS(NULL, "'host=h password=secret'", "'host=h password=***'");
    SHOWS(NULL, "x://h/d?password=a%26b&user=u", "x://h/d?password=***&user=u");
    SHOWS(NULL, "x://h/d?user=u&password=secret", "x://h/d?user=u&password=***");
    SHOWS(NULL, "password='never closed", "password=***");
    SHOWS(NULL, "password=x\\", "password=***");
}

static void test_other_places(void)
{
    SHOWS(NULL, "{\"password\": \"a\\\"b\", \"c\":1}", "{\"password\": ***, \"c\":1}");
    SHOWS(NULL, "create role r password 'it''s' login", "create role r password *** login");
    SHOWS(NULL, "ALTER ROLE r PASSWORD E'a\\'b';", "ALTER ROLE r PASSWORD E***;");
    SHOWS(NULL, "alter role r password U&'s\\0041' login", "alter role r password U&*** login");
    SHOWS(NULL, "alter role r password n's' login", "alter role r password n*** login");
    SHOWS(NULL, "alter role r password $$it's$$ login", "alter role r password *** login");
    SHOWS(NULL, "alter role r password $q$a$$b$q$;", "alter role r password ***;");
    SHOWS(NULL, "alter role r password $q$a $q b", "alter role r password ***");
    SHOWS(NULL, "alter role r password\n\t's'", "alter role r password\n\t***");
    SHOWS(NULL, "password -- it's\n/* 'a' */'s' login", "password -- it's\n/* 'a' */*** login");
    SHOWS(NULL, "password/**/'s'", "password/**/***");
    SHOWS(NULL, "connect('host=h password=''a b'' user=u')", "connect('host=h password=*** user=u')");
    SHOWS(NULL, "set password = '', a = 'b'", "set password = ***, a = 'b'");
}

static void test_keyword_without(void)
{
    static const char *const texts[] = {
        "password authentication failed for user \"u\"",
        "password=",
        "password= ",
        "no password supplied",
        "password: wrong",
        "password",
        "the password's length",
        "password expired",
        "password $1",
        "password -- 's",
        "password /* 's'",
        "password\n",
        "password U&",
        "password $",
        "password $a",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        SHOWS(NULL, texts[i], texts[i]);
}

/* ---- any text ---- */

/* Texts made of special pieces around a secret: the secret is never printed, in any spelling. */
static void test_random(void)
{
    static const char *const pieces[] = {"://",       "u",  ":",  "@",  "/",  "'",   "\"", " ",
                                         "password=", "\\", "%",  "h",  "?",  "&",   "=",  "\n",
                                         "postgres",  "63", "%2", "''", "E'", "\xc3"};
    static const char *const spelled[] = {"s3cr't\\!", "s3cr%27t%5c!", "s3cr\\'t\\\\!", "s3cr''t\\!"};
    struct prng r = prng_new(check_seed("secrets"));
    struct secrets *s = secrets_new();
    struct buf text = {0}, out = {0};
    CHECK(secrets_add(s, spelled[0], strlen(spelled[0])));
    for (uint64_t i = check_ops(200000) / 10; i && !check_state.broken; i--) {
        buf_clear(&text);
        buf_clear(&out);
        for (uint32_t n = prng_below(&r, 12); n; n--)
            buf_adds(&text, pieces[prng_below(&r, sizeof pieces / sizeof pieces[0])]);
        if (text.len && (text.data[text.len - 1] == '\\' || text.data[text.len - 1] == '%'))
            buf_adds(&text, " "); /* else it is another spelling of another text */
        buf_adds(&text, spelled[prng_below(&r, 4)]);
        for (uint32_t n = prng_below(&r, 12); n; n--)
            buf_adds(&text, pieces[prng_below(&r, sizeof pieces / sizeof pieces[0])]);
        CHECK(secrets_mask(s, text.data, text.len, &out));
        if (!CHECK(!strstr(out.data, "s3cr")))
            printf("text <%s>\nbecame <%s>\n", text.data, out.data);
    }
    buf_free(&text);
    buf_free(&out);
    secrets_free(s);
}

/* ---- log ---- */

/* The output of one call; valid until the next call. */
static const char *logged(bool json, enum log_level level, const char *text)
{
    static char line[1024];
    int fd[2];
    struct secrets *s = secrets_new();
    CHECK(secrets_add(s, "hunter22", 8));
    CHECK(pipe(fd) == 0);
    struct log log = {.level = LOG_LEVEL_INFO, .json = json, .fd = fd[1], .secrets = s};
    log_write(&log, level, "%s", text);
    close(fd[1]);
    ssize_t n = read(fd[0], line, sizeof line - 1);
    line[n > 0 ? n : 0] = '\0';
    close(fd[0]);
    secrets_free(s);
    return line;
}

static void test_log_text(void)
{
    const char *line = logged(false, LOG_LEVEL_WARN, "pool: slow, hunter22");
    int y, mo, d, h, mi, sec, ms;
    CHECK_EQ(sscanf(line, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ ", &y, &mo, &d, &h, &mi, &sec, &ms), 7);
    CHECK(y >= 2024);
    CHECK_STR(line + 24, " WARN  pool: slow, ***\n");
    CHECK_STR(logged(false, LOG_LEVEL_INFO, "x") + 24, " INFO  x\n");
    CHECK_STR(logged(false, LOG_LEVEL_ERROR, "") + 24, " ERROR \n");
    CHECK_STR(logged(false, LOG_LEVEL_DEBUG, "too talkative"), "");
}

static void test_log_text_hostile(void)
{
    CHECK_STR(logged(false, LOG_LEVEL_INFO, "a\n2026-01-01T00:00:00.000Z ERROR forged\x1b[2J\x7f\tb") + 24,
              " INFO  a\n    2026-01-01T00:00:00.000Z ERROR forged\\x1b[2J\\x7f\tb\n");
}

static const char *message_of(const char *line)
{
    const char *at = strstr(line, "\"message\":");
    return at ? at : line;
}

static void test_log_json(void)
{
    const char *line = logged(true, LOG_LEVEL_ERROR, "hunter22 \"q\" \\ \n \x01");
    CHECK(strncmp(line, "{\"time\":\"2", 10) == 0);
    CHECK(strstr(line, "Z\",\"level\":\"error\",\"message\":") != NULL);
    CHECK_STR(message_of(line), "\"message\":\"*** \\\"q\\\" \\\\ \\u000a \\u0001\"}\n");
}

static void test_log_json_bytes(void)
{
    /* valid: two, three, four bytes; not valid: alone, cut off, overlong, surrogate, beyond the end */
    CHECK_STR(message_of(logged(true, LOG_LEVEL_INFO, "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80")),
              "\"message\":\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"}\n");
    CHECK_STR(message_of(logged(true, LOG_LEVEL_INFO,
                                "\x80|\xe2\x82|\xc0\xaf|\xed\xa0\x80|\xf4\x90\x80\x80|\xff|\xc3")),
              "\"message\":\"\\ufffd|\\ufffd\\ufffd|\\ufffd\\ufffd|\\ufffd\\ufffd\\ufffd|"
              "\\ufffd\\ufffd\\ufffd\\ufffd|\\ufffd|\\ufffd\"}\n");
}

static void test_log_levels(void)
{
    enum log_level level = LOG_LEVEL_INFO;
    CHECK(log_level_parse("debug", &level) && level == LOG_LEVEL_DEBUG);
    CHECK(log_level_parse("error", &level) && level == LOG_LEVEL_ERROR);
    CHECK(!log_level_parse("loud", &level) && level == LOG_LEVEL_ERROR);
    CHECK(!log_level_parse("", &level));
}

static void test_log_gone(void)
{
    struct log log = {.level = LOG_LEVEL_INFO, .fd = -1};
    log_write(&log, LOG_LEVEL_INFO, "nobody hears this");
    CHECK(true); /* it returned */
}

int main(void)
{
    TEST("a known secret is masked wherever it stands", test_known);
    TEST("a password can contain any character", test_awkward_raw);
    TEST("a known secret is masked in percent encoding", test_percent_encoded);
    TEST("a known secret is masked with backslash escapes and with doubled quotes", test_escaped);
    TEST("of several secrets the longest one is masked", test_longest);
    TEST("a short lower-case word is masked only as a separate word", test_small_words);
    TEST("secrets and texts can contain any bytes", test_bytes);
    TEST("passwords are masked by their place without any known secret", test_no_secrets);
    TEST("the password of a URL is masked", test_url);
    TEST("the password of a URL is masked when it is not percent-encoded", test_url_not_encoded);
    TEST("a URL without a password stays as it is", test_url_without);
    TEST("the value of password= is masked", test_keyword);
    TEST("passwords in JSON and SQL are masked", test_other_places);
    TEST("the word password alone masks nothing", test_keyword_without);
    TEST("a secret is never printed from random texts", test_random);
    TEST("a log line has time, level and text, masked", test_log_text);
    TEST("a log line can neither steer the terminal nor forge another", test_log_text_hostile);
    TEST("a log line in JSON", test_log_json);
    TEST("a log line is valid JSON for any bytes", test_log_json_bytes);
    TEST("levels by name", test_log_levels);
    TEST("a log without a descriptor does no harm", test_log_gone);
    return check_end("secrets");
}
