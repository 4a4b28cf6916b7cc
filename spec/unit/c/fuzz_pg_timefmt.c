/*
 * For libFuzzer (make fuzz): dates and times. An accepted text must be printed as a text that reads as the
 * same time; any 64 bits must be printed as text, and read back as the same 64 bits when they are a time that
 * PostgreSQL knows.
 */
#include "pg/timefmt.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FIRST INT64_C(-211813488000000000)
#define END   INT64_C(9223371331200000000)

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void check_text(const char *text, size_t len)
{
    must(len < TIMEFMT_MAX && strlen(text) == len);
    for (size_t i = 0; i < len; i++)
        must(text[i] >= ' ' && text[i] <= '~');
}

static void from_text(const char *text)
{
    char printed[TIMEFMT_MAX];
    int64_t usec;
    int64_t again;
    if (!timefmt_parse_timestamp(text, &usec))
        return;
    must(usec == INT64_MIN || usec == INT64_MAX || (usec >= FIRST && usec < END));
    for (int utc = 0; utc < 2; utc++) {
        check_text(printed, timefmt_timestamp(printed, usec, utc == 1));
        must(timefmt_parse_timestamp(printed, &again) && again == usec);
    }
}

static void from_bits(int64_t bits)
{
    char printed[TIMEFMT_MAX];
    int64_t again;
    check_text(printed, timefmt_timestamp(printed, bits, true));
    bool known = bits == INT64_MIN || bits == INT64_MAX || (bits >= FIRST && bits < END);
    must(timefmt_parse_timestamp(printed, &again) == known && (!known || again == bits));
    check_text(printed, timefmt_date(printed, (int32_t)bits));
    check_text(printed, timefmt_time(printed, bits));
    int64_t clock = (int64_t)((uint64_t)bits % UINT64_C(86400000001));
    check_text(printed, timefmt_time(printed, clock));
    must(strspn(printed, "0123456789:.") == strlen(printed) && strlen(printed) >= 8);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[128];
    int64_t bits = 0;
    memcpy(&bits, data, size < 8 ? size : 8);
    from_bits(bits);
    size_t n = size < sizeof text - 1 ? size : sizeof text - 1;
    memcpy(text, data, n);
    text[n] = '\0';
    from_text(text);
    return 0;
}
