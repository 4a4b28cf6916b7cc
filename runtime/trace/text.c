#include "trace/text.h"

#include "base/text.h"
#include "trace/line.h"

#include <stdlib.h>
#include <string.h>

enum {
    CHAINS = 4096,
    MOST_TEXTS = 5000,
    MOST_BYTES = 16 << 20,
    MASKED_MOST = TRACE_SQL_MOST * 2, /* bytes that are masked: a secret may lie where the text is cut */
    STEPS = 8                         /* buckets between a duration and its double */
};

const char *const trace_cat_names[TRACE_CATS] = {"postgres",    "shared", "pipeline", "piped", "rows", "copy",
                                                 "transaction", "pool",   "redis",    "sleep", "wait"};

struct trace_texts {
    const struct secrets *secrets;
    struct trace_text *chain[CHAINS];
    unsigned n;
    size_t bytes;
    struct trace_text others[TRACE_CATS]; /* for texts without room in the table */
    struct trace_counts others_counts[TRACE_CATS];
    struct trace_text passing; /* the last such text, as an event shows it */
};

/* ---- the part of an event that comes from its text ---- */

/* Adds the beginning of the text, with each run of blanks as one blank. */
static bool add_name(struct buf *out, const char *text, size_t len)
{
    char name[TRACE_NAME_MOST + 1];
    size_t n = 0;
    for (size_t i = 0; i < len && n < sizeof name; i++) {
        bool blank = strchr(" \t\r\n", text[i]) != NULL && text[i] != '\0';
        if (!blank)
            name[n++] = text[i];
        else if (n > 0 && name[n - 1] != ' ')
            name[n++] = ' ';
    }
    return line_json(out, name, n > TRACE_NAME_MOST ? utf8_cut(name, n, TRACE_NAME_MOST) : n);
}

static bool add_place(struct buf *out, const char *file, int line)
{
    if (line <= 0)
        return true;
    return buf_adds(out, ",\"place\":\"") && line_json(out, file, strlen(file)) &&
           buf_addf(out, ":%d\"", line);
}

static bool render(struct trace_text *x, const struct trace_key *key, const struct secrets *secrets)
{
    struct buf sql = {0};
    buf_clear(&x->head);
    buf_clear(&x->args);
    bool ok = !key->sql || secrets_mask(secrets, key->sql, utf8_cut(key->sql, key->len, MASKED_MOST), &sql);
    size_t len = utf8_cut(sql.data, sql.len, TRACE_SQL_MOST);
    ok = ok && buf_adds(&x->head, "{\"name\":\"");
    ok = ok &&
         (key->name ? line_json(&x->head, key->name, utf8_cut(key->name, strlen(key->name), TRACE_NAME_MOST))
                    : add_name(&x->head, sql.data ? sql.data : "", len));
    ok = ok && buf_addf(&x->head, "\",\"cat\":\"%s\"", trace_cat_names[key->cat]);
    if (key->sql)
        ok = ok && buf_adds(&x->args, ",\"sql\":\"") && line_json(&x->args, sql.data ? sql.data : "", len) &&
             buf_adds(&x->args, "\"");
    ok = ok && add_place(&x->args, key->file, key->line);
    buf_free(&sql);
    return ok;
}

/* ---- the table ---- */

static uint64_t hash_bytes(uint64_t h, const char *text, size_t len)
{
    for (; len >= 8; text += 8, len -= 8) {
        uint64_t word;
        memcpy(&word, text, 8);
        h = (h ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        h ^= h >> 32;
    }
    for (; len > 0; text++, len--)
        h = (h ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    return h ^ h >> 29;
}

static uint64_t hash_of(const struct trace_key *key)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325) + (uint64_t)key->cat * 31 + (uint64_t)key->line * 1009;
    if (key->name)
        h = hash_bytes(h, key->name, strlen(key->name));
    if (key->sql)
        h = hash_bytes(h, key->sql, key->len);
    return h;
}

static bool is(const struct trace_text *x, const struct trace_key *key, uint64_t hash)
{
    return x->hash == hash && x->len == key->len && x->cat == key->cat && x->line == key->line &&
           (key->line <= 0 || strncmp(x->file, key->file, sizeof x->file - 1) == 0);
}

struct trace_texts *trace_texts_new(void)
{
    struct trace_texts *t = calloc(1, sizeof *t);
    for (int cat = 0; t && cat < TRACE_CATS; cat++) {
        struct trace_key key = {.cat = (enum trace_cat)cat, .name = "(others)"};
        t->others[cat].cat = key.cat;
        t->others[cat].counts = &t->others_counts[cat];
        if (!render(&t->others[cat], &key, NULL)) {
            trace_texts_free(t);
            return NULL;
        }
    }
    return t;
}

static void clear(struct trace_text *x)
{
    buf_free(&x->head);
    buf_free(&x->args);
}

void trace_texts_free(struct trace_texts *t)
{
    if (!t)
        return;
    for (int i = 0; i < CHAINS; i++) {
        while (t->chain[i]) {
            struct trace_text *x = t->chain[i];
            t->chain[i] = x->next;
            clear(x);
            free(x);
        }
    }
    for (int cat = 0; cat < TRACE_CATS; cat++)
        clear(&t->others[cat]);
    clear(&t->passing);
    free(t);
}

void trace_texts_mask(struct trace_texts *t, const struct secrets *secrets)
{
    t->secrets = secrets;
}

/* Allocates a text and its counts as one block. */
static struct trace_text *add(struct trace_texts *t, const struct trace_key *key, uint64_t hash)
{
    struct trace_text *x = calloc(1, sizeof *x + sizeof *x->counts);
    if (!x || !render(x, key, t->secrets)) {
        if (x)
            clear(x);
        free(x);
        return NULL;
    }
    x->counts = (struct trace_counts *)(x + 1);
    x->hash = hash;
    x->len = key->len;
    x->cat = key->cat;
    x->line = key->line;
    if (key->line > 0)
        strncpy(x->file, key->file, sizeof x->file - 1);
    x->next = t->chain[hash % CHAINS];
    t->chain[hash % CHAINS] = x;
    t->n++;
    t->bytes += sizeof *x + sizeof *x->counts + x->head.cap + x->args.cap;
    return x;
}

struct trace_text *trace_text_find(struct trace_texts *t, const struct trace_key *key)
{
    uint64_t hash = hash_of(key);
    for (struct trace_text *x = t->chain[hash % CHAINS]; x; x = x->next)
        if (is(x, key, hash))
            return x;
    return t->n < MOST_TEXTS && t->bytes < MOST_BYTES ? add(t, key, hash) : NULL;
}

struct trace_text *trace_text_others(struct trace_texts *t, enum trace_cat cat)
{
    return &t->others[cat];
}

struct trace_text *trace_text_passing(struct trace_texts *t, const struct trace_key *key)
{
    if (!render(&t->passing, key, t->secrets))
        return NULL;
    t->passing.cat = key->cat;
    t->passing.passes = true;
    t->passing.counts = &t->others_counts[key->cat];
    return &t->passing;
}

/* ---- counts ---- */

/* Durations below STEPS us have one bucket each; above, each doubling is divided into STEPS buckets. */
static unsigned bucket_of(uint64_t us)
{
    if (us < STEPS)
        return (unsigned)us;
    unsigned exponent = 63 - (unsigned)__builtin_clzll(us);
    unsigned index = (exponent - 2) * STEPS + (unsigned)(us >> (exponent - 3) & (STEPS - 1));
    return index < TRACE_BUCKETS ? index : TRACE_BUCKETS - 1;
}

/* The longest duration of a bucket. */
static uint64_t bucket_end(unsigned index)
{
    if (index < STEPS)
        return index;
    unsigned exponent = index / STEPS + 2;
    return ((uint64_t)(STEPS + index % STEPS + 1) << (exponent - 3)) - 1;
}

void trace_text_count(struct trace_text *x, uint64_t n, uint64_t ns, uint64_t rows, bool failed)
{
    struct trace_counts *c = x->counts;
    c->calls += n;
    c->errors += failed;
    c->rows += rows;
    c->total += ns;
    if (ns > c->most)
        c->most = ns;
    c->bucket[bucket_of(ns / 1000)]++;
}

static uint64_t percentile_95(const struct trace_counts *c)
{
    uint64_t all = 0;
    uint64_t seen = 0;
    for (unsigned i = 0; i < TRACE_BUCKETS; i++)
        all += c->bucket[i];
    for (unsigned i = 0; i < TRACE_BUCKETS; i++) {
        seen += c->bucket[i];
        if (seen * 100 >= all * 95)
            return bucket_end(i) < c->most / 1000 ? bucket_end(i) : c->most / 1000;
    }
    return c->most / 1000;
}

/* Adds the counts up, for "(others)". */
static void gather(struct trace_counts *into, const struct trace_counts *c)
{
    into->calls += c->calls;
    into->errors += c->errors;
    into->rows += c->rows;
    into->total += c->total;
    if (c->most > into->most)
        into->most = c->most;
    for (unsigned i = 0; i < TRACE_BUCKETS; i++)
        into->bucket[i] += c->bucket[i];
}

static bool describe(struct buf *out, const struct trace_text *x)
{
    static const char start[] = "{\"name\":\"";
    const struct trace_counts *c = x->counts;
    buf_clear(out);
    buf_adds(out, "{\"name\":\"dbrun_statement\",\"ph\":\"M\",\"pid\":1,\"tid\":0,\"args\":{\"cat\":\"");
    buf_adds(out, trace_cat_names[x->cat]);
    buf_adds(out, "\"");
    if (!x->args.data || strncmp(x->args.data, ",\"sql\"", 6) != 0) { /* its name says it */
        const char *name = x->head.data + sizeof start - 1;
        const char *end = strstr(name, "\",\"cat\":");
        buf_adds(out, ",\"sql\":\"");
        buf_add(out, name, (size_t)(end - name));
        buf_adds(out, "\"");
    }
    if (x->args.data)
        buf_add(out, x->args.data, x->args.len);
    return buf_addf(out,
                    ",\"calls\":%llu,\"errors\":%llu,\"rows\":%llu,\"total_us\":%llu,\"max_us\":%llu,"
                    "\"p95_us\":%llu}},\n",
                    (unsigned long long)c->calls, (unsigned long long)c->errors, (unsigned long long)c->rows,
                    (unsigned long long)(c->total / 1000), (unsigned long long)(c->most / 1000),
                    (unsigned long long)percentile_95(c));
}

static int by_total(const void *a, const void *b)
{
    const struct trace_text *x = *(struct trace_text *const *)a;
    const struct trace_text *y = *(struct trace_text *const *)b;
    return (x->counts->total < y->counts->total) - (x->counts->total > y->counts->total);
}

void trace_texts_tell(struct trace_texts *t, size_t room,
                      void (*put)(void *data, const char *line, size_t len), void *data)
{
    struct trace_text **list = calloc(t->n + 1, sizeof(struct trace_text *));
    struct buf line = {0};
    unsigned n = 0;
    for (int i = 0; list && i < CHAINS; i++)
        for (struct trace_text *x = t->chain[i]; x; x = x->next)
            if (x->counts->calls > 0)
                list[n++] = x;
    if (list)
        qsort(list, n, sizeof(struct trace_text *), by_total);
    for (unsigned i = 0; i < n; i++) {
        if (describe(&line, list[i]) && line.len <= room) {
            put(data, line.data, line.len);
            room -= line.len;
        } else {
            gather(&t->others_counts[list[i]->cat], list[i]->counts);
        }
    }
    for (int cat = 0; cat < TRACE_CATS; cat++)
        if (t->others_counts[cat].calls > 0 && describe(&line, &t->others[cat]))
            put(data, line.data, line.len);
    buf_free(&line);
    free(list);
}
