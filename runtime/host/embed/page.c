/*
 * Build tool: joins a page of HTML with its style and its scripts.
 *   page OUT.html PAGE.html STYLE.css SCRIPT.js...
 * In PAGE.html `@STYLE@`, `@SCRIPT@` and `@HASH@` must appear once each. HASH is the hash of the script, for
 * the page's Content-Security-Policy, which allows only this script. The indentation and comment lines of
 * style and scripts are dropped, because the page goes into every trace.
 */
#include <errno.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct text {
    char *data;
    size_t len;
};

static void fail(const char *path, const char *why)
{
    fprintf(stderr, "page: %s: %s\n", path, why);
    exit(1);
}

static void add(struct text *t, const char *data, size_t len)
{
    t->data = realloc(t->data, t->len + len + 1);
    if (t->data == NULL)
        fail("memory", strerror(ENOMEM));
    memcpy(t->data + t->len, data, len);
    t->len += len;
    t->data[t->len] = '\0';
}

static struct text read_file(const char *path)
{
    struct text t = {0};
    char part[4096];
    size_t len;
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        fail(path, strerror(errno));
    add(&t, "", 0);
    while ((len = fread(part, 1, sizeof part, f)) > 0)
        add(&t, part, len);
    if (ferror(f))
        fail(path, "cannot be read");
    fclose(f);
    return t;
}

/* Adds the file's lines without indentation, empty lines and comments. */
static void add_lines(struct text *out, const char *path)
{
    struct text t = read_file(path);
    char *next;
    for (char *line = t.data; *line != '\0'; line = next) {
        size_t len = strcspn(line, "\n");
        next = line + len + (line[len] == '\n');
        size_t indent = strspn(line, " ");
        if (indent == len || strncmp(line + indent, "//", 2) == 0)
            continue;
        add(out, line + indent, len - indent);
        add(out, "\n", 1);
    }
    free(t.data);
}

/* Fails if a script would end its element, or begin an HTML comment. */
static void check_script(const struct text *script)
{
    if (strstr(script->data, "</") != NULL || strstr(script->data, "<!--") != NULL)
        fail("script", "it contains </ or <!--, by which its element ends: write it with an escape");
}

static void hash(const struct text *script, char out[65])
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    if (EVP_Digest(script->data, script->len, digest, &len, EVP_sha256(), NULL) != 1)
        fail("script", "libcrypto has no SHA-256");
    EVP_EncodeBlock((unsigned char *)out, digest, (int)len);
}

/* Writes the page up to the mark, then the text that replaces the mark; returns the rest of the page. */
static const char *replace(FILE *f, const char *page, const char *mark, const char *text, size_t len)
{
    const char *at = strstr(page, mark);
    if (at == NULL)
        fail(mark, "it is missing in the page, or out of its order");
    fwrite(page, 1, (size_t)(at - page), f);
    fwrite(text, 1, len, f);
    return at + strlen(mark);
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: page OUT.html PAGE.html STYLE.css SCRIPT.js...\n");
        return 2;
    }
    struct text page = read_file(argv[2]);
    struct text style = {0};
    struct text script = {0};
    char digest[65];
    add_lines(&style, argv[3]);
    for (int i = 4; i < argc; i++)
        add_lines(&script, argv[i]);
    check_script(&script);
    hash(&script, digest);
    FILE *f = fopen(argv[1], "wb");
    if (f == NULL)
        fail(argv[1], strerror(errno));
    const char *rest = replace(f, page.data, "@HASH@", digest, strlen(digest));
    rest = replace(f, rest, "@STYLE@", style.data, style.len);
    rest = replace(f, rest, "@SCRIPT@", script.data, script.len);
    bool written = fputs(rest, f) >= 0;
    if (fclose(f) != 0 || !written)
        fail(argv[1], strerror(errno));
    free(page.data);
    free(style.data);
    free(script.data);
    return 0;
}
