#include "pg_scanner.h"

#include <dlfcn.h>
#include <pg_query.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static PgQueryScanResult (*scan)(const char *sql);
static void (*scan_free)(PgQueryScanResult r);

/* The development link of the library whose structs pg_query.h describes. */
bool scanner_open(void)
{
    void *lib = scan ? NULL : dlopen("libpg_query.so", RTLD_NOW | RTLD_LOCAL);
    if (lib) {
        *(void **)&scan_free = dlsym(lib, "pg_query_free_scan_result");
        *(void **)&scan = dlsym(lib, "pg_query_scan");
    }
    return scan && scan_free;
}

/* ---- its result: protocol buffers, a list of messages of four numbers ---- */

struct reader {
    const unsigned char *p;
    const unsigned char *end;
};

static uint64_t varint(struct reader *r)
{
    uint64_t v = 0;
    for (int shift = 0; r->p < r->end && shift < 64; shift += 7) {
        unsigned char c = *r->p++;
        v |= (uint64_t)(c & 0x7f) << shift;
        if (c < 0x80)
            break;
    }
    return v;
}

static struct scanner_token read_token(struct reader r)
{
    struct scanner_token t = {0};
    while (r.p < r.end) {
        uint64_t tag = varint(&r);
        uint64_t v = varint(&r);
        switch (tag >> 3) {
        case 1:
            t.at = (size_t)v;
            break;
        case 2:
            t.end = (size_t)v;
            break;
        case 4:
            t.kind = (int)v;
            break;
        case 5:
            t.keyword = v > 0;
            break;
        default:
            break;
        }
    }
    return t;
}

static long read_tokens(const PgQueryProtobuf *pbuf, struct scanner_token *list, size_t most)
{
    struct reader r = {(const unsigned char *)pbuf->data, (const unsigned char *)pbuf->data + pbuf->len};
    size_t n = 0;
    while (r.p < r.end) {
        uint64_t tag = varint(&r);
        uint64_t v = varint(&r);
        if ((tag & 7) != 2)
            continue;
        if (n == most)
            abort();
        list[n++] = read_token((struct reader){r.p, r.p + v});
        r.p += v;
    }
    return (long)n;
}

long scanner_read(const char *sql, struct scanner_token *list, size_t most, char why[200])
{
    PgQueryScanResult r = scan(sql);
    long n = -1;
    if (r.error)
        snprintf(why, 200, "%s", r.error->message ? r.error->message : "");
    else
        n = read_tokens(&r.pbuf, list, most);
    scan_free(r);
    return n;
}
