/* A FILE that is read without blocking: values in pieces, and bytes that are put back. */
#include "check.h"
#include "io/stream.h"

#include <unistd.h>

static int in;
static struct stream s;

static void begin(void)
{
    int fd[2];
    CHECK(pipe(fd) == 0);
    in = fd[1];
    s = (struct stream){.file = fdopen(fd[0], "r"), .reads = 1000};
    stream_begin(&s);
}

static void end(void)
{
    close(in);
    buf_free(&s.taken);
    fclose(s.file);
}

static void put(const char *text)
{
    CHECK(write(in, text, strlen(text)) == (ssize_t)strlen(text));
}

static void check_value(const char *expected)
{
    size_t len;
    const char *value = stream_value(&s, &len);
    CHECK_EQ(len, strlen(expected));
    CHECK(memcmp(value, expected, len) == 0);
    stream_next(&s);
}

static void test_pieces(void)
{
    begin();
    CHECK_EQ(stream_line(&s), STREAM_WAIT);
    put("on");
    CHECK_EQ(stream_line(&s), STREAM_WAIT);
    put("e\ntwo and\nthree");
    CHECK_EQ(stream_line(&s), STREAM_DONE);
    check_value("one\n");
    CHECK_EQ(stream_block(&s, 4), STREAM_DONE);
    check_value("two ");
    CHECK_EQ(stream_block(&s, 100), STREAM_WAIT);
    close(in);
    CHECK_EQ(stream_block(&s, 100), STREAM_DONE);
    check_value("and\nthree");
    CHECK_EQ(stream_line(&s), STREAM_NONE);
    CHECK_EQ(stream_block(&s, 0), STREAM_NONE);
    CHECK_EQ(stream_all(&s), STREAM_DONE);
    check_value("");
    end();
}

/* Takes `n` bytes in pieces, gives them up, reads them again: the bytes that were put back are in a second
 * buffer of the FILE, before those of the first. */
static void check_give_up(size_t n)
{
    char *text = malloc(n);
    for (size_t i = 0; i < n; i++)
        text[i] = (char)('a' + i % 23);
    begin();
    for (size_t done = 0; done < n;) {
        size_t piece = n - done < 5000 ? n - done : 5000;
        CHECK(write(in, text + done, piece) == (ssize_t)piece);
        CHECK_EQ(stream_line(&s), STREAM_WAIT);
        done += piece;
    }
    put("\nrest");
    CHECK_EQ(stream_block(&s, n + 3), STREAM_DONE);
    stream_give_up(&s);
    CHECK_EQ(s.taken.len, 0);

    for (size_t done = 0; done < n;) { /* the second buffer is used up in the middle of a value */
        size_t piece = n - done < 777 ? n - done : 777;
        stream_begin(&s);
        CHECK_EQ(stream_block(&s, piece), STREAM_DONE);
        CHECK(memcmp(s.taken.data, text + done, piece) == 0);
        stream_next(&s);
        stream_settle(&s);
        done += piece;
    }
    stream_begin(&s);
    CHECK_EQ(stream_line(&s), STREAM_DONE);
    check_value("\n");
    CHECK_EQ(stream_block(&s, 4), STREAM_DONE); /* does not wait for available bytes */
    check_value("rest");
    CHECK_EQ(stream_line(&s), STREAM_WAIT);
    end();
    free(text);
}

static void test_give_up(void)
{
    static const size_t sizes[] = {1, 2, 100, 128, 129, 4095, 4096, 4097, 70000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        check_give_up(sizes[i]);
}

static void test_numeral(void)
{
    char text[STREAM_NUMERAL + 1];
    begin();
    put("  -0x1F");
    CHECK_EQ(stream_numeral(&s, text), STREAM_WAIT);
    put("p2z7");
    CHECK_EQ(stream_numeral(&s, text), STREAM_DONE);
    CHECK_STR(text, "-0x1Fp2");
    stream_next(&s);
    stream_settle(&s);
    CHECK_EQ(getc(s.file), 'z');
    stream_begin(&s);
    close(in);
    CHECK_EQ(stream_numeral(&s, text), STREAM_DONE);
    CHECK_STR(text, "7");
    end();
}

/* A read that cannot wait gets the bytes that an unfinished read has taken; that read goes on after them. */
static void test_lend(void)
{
    char line[16];
    begin();
    put("first\npart");
    CHECK_EQ(stream_line(&s), STREAM_DONE);
    check_value("first\n");
    CHECK_EQ(stream_line(&s), STREAM_WAIT);
    CHECK(stream_lend(&s));
    put(" two\n");
    CHECK(fgets(line, sizeof line, s.file) != NULL);
    CHECK_STR(line, "part two\n");
    put("three\n");
    CHECK_EQ(stream_line(&s), STREAM_DONE);
    check_value("three\n");
    stream_settle(&s);
    CHECK_EQ(s.taken.len, 0);
    end();
}

static void test_turn(void)
{
    begin();
    s.reads = 1;
    put("x");
    CHECK_EQ(stream_block(&s, 2), STREAM_WAIT);
    put("y");
    CHECK_EQ(stream_block(&s, 2), STREAM_WAIT); /* others have their turn */
    s.reads = 1;
    CHECK_EQ(stream_block(&s, 2), STREAM_DONE);
    check_value("xy");
    end();
}

static void test_which_wait(void)
{
    begin();
    FILE *writer = fdopen(dup(in), "w");
    FILE *plain = tmpfile();
    FILE *null = fopen("/dev/null", "r");
    CHECK(stream_may_wait(s.file));
    CHECK(!stream_may_wait(writer));
    CHECK(!stream_may_wait(plain));
    CHECK(!stream_may_wait(null));
    fclose(null);
    fclose(plain);
    fclose(writer);
    end();
}

int main(void)
{
    TEST("a value is read in pieces", test_pieces);
    TEST("an abandoned read loses no bytes", test_give_up);
    TEST("a numeral leaves the byte after it", test_numeral);
    TEST("an unfinished read lends the bytes that it has taken", test_lend);
    TEST("the caller is told to wait after some reads", test_turn);
    TEST("only pipes, sockets and terminals open for reading are waited for", test_which_wait);
    return check_end("stream");
}
