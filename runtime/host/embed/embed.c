/*
 * Build tool: compiles Lua files and writes them as C arrays.
 *   embed OUT.c ROOT FILE...
 * A file below ROOT becomes the module of its path (lua/dbrun/init.lua -> dbrun). Any other file gets two
 * names: argparse.lua becomes argparse, and dbrun.argparse, by which dbrun's modules require exactly the
 * embedded file; it replaces a file of that name below ROOT, which is for use without the binary. A syntax
 * error stops the build.
 *
 * Texts, by their path below ROOT: Markdown and HTML files unchanged (a file outside ROOT by its name), and
 * for each Lua file what `dbrun help` shows: the annotations of functions and classes, each with the line of
 * code after it.
 */
#include <errno.h>
#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct source {
    const char *path;
    bool outside;    /* not below ROOT */
    bool command;    /* from the folder scripts: what `dbrun NAME` runs */
    bool text;       /* a text, not a module */
    bool used;       /* it was chosen among the files of its name */
    char name[256];  /* dbrun.config */
    char chunk[300]; /* =dbrun/config.lua; the chunk name of a file begins with @ */
    size_t size;
    size_t text_size; /* 0: no text */
};

struct module {
    char name[300];
    struct source *source;
};

struct output {
    FILE *file;
    size_t count;
};

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text);
    return len >= strlen(end) && strcmp(text + len - strlen(end), end) == 0;
}

static void name_source(struct source *m, const char *root)
{
    size_t root_len = strlen(root);
    m->text = ends_with(m->path, ".md") || ends_with(m->path, ".html");
    const char *rel = m->path;
    m->command = strncmp(rel, "scripts/", 8) == 0;
    if (m->command) { /* its name has a slash, so it is no module's name */
        m->outside = true;
        snprintf(m->chunk, sizeof m->chunk, "=%s", rel);
        snprintf(m->name, sizeof m->name, "%.*s", (int)(strlen(rel) - strlen(".lua")), rel);
        return;
    }
    if (strncmp(rel, root, root_len) == 0 && rel[root_len] == '/')
        rel += root_len + 1;
    else
        m->outside = true;
    if (m->outside && strrchr(rel, '/') != NULL)
        rel = strrchr(rel, '/') + 1;
    snprintf(m->chunk, sizeof m->chunk, "=%s", rel);
    snprintf(m->name, sizeof m->name, "%s", rel);
    char *dot = strrchr(m->name, '.');
    if (dot != NULL)
        *dot = '\0';
    for (char *p = m->name; *p != '\0'; p++)
        if (*p == '/')
            *p = '.';
    if (ends_with(m->name, ".init"))
        m->name[strlen(m->name) - 5] = '\0';
}

/* Orders by name; for the same name, the file from outside ROOT first. */
static int by_name(const void *a, const void *b)
{
    const struct module *x = a;
    const struct module *y = b;
    int order = strcmp(x->name, y->name);
    return order != 0 ? order : (int)y->source->outside - (int)x->source->outside;
}

static char *read_file(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    char *text = NULL;
    if (f == NULL)
        goto fail;
    if (fseek(f, 0, SEEK_END) != 0)
        goto fail;
    long len = ftell(f);
    if (len < 0 || fseek(f, 0, SEEK_SET) != 0)
        goto fail;
    text = malloc((size_t)len + 1);
    if (text == NULL || fread(text, 1, (size_t)len, f) != (size_t)len)
        goto fail;
    fclose(f);
    text[len] = '\0';
    *size = (size_t)len;
    return text;
fail:
    fprintf(stderr, "embed: %s: %s\n", path, strerror(errno));
    exit(1);
}

/* Writes a string literal, which gcc compiles ten times as fast as a list of numbers. */
static int write_bytes(lua_State *L, const void *data, size_t size, void *ud)
{
    (void)L;
    struct output *out = ud;
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i++) {
        unsigned char c = bytes[i];
        if ((out->count + i) % 60 == 0)
            fputs("\"\n\"", out->file);
        if (c >= ' ' && c <= '~' && c != '"' && c != '\\' && c != '?') /* '?': a trigraph has two */
            fputc(c, out->file);
        else
            fprintf(out->file, "\\%03o", c);
    }
    out->count += size;
    return ferror(out->file);
}

/* ---- texts ---- */

/* True when the line is an annotation: blanks, then three dashes. */
static bool is_annotation(const char *line)
{
    line += strspn(line, " \t");
    return strncmp(line, "---", 3) == 0;
}

/* True when a block of annotations belongs to the manual: it is above a function of a module or class,
 * describes a class, or describes the file. */
static bool is_public(const char *block, size_t len, const char *code, bool at_top)
{
    code += strspn(code, " \t");
    if (at_top || memmem(block, len, "---@class", 9) != NULL || memmem(block, len, "---@alias", 9) != NULL)
        return true;
    size_t word = strcspn(code, " =(\n");
    if (strncmp(code, "return function", 15) == 0) /* it adds methods to a class */
        return true;
    return strncmp(code, "function ", 9) == 0 || memchr(code, '.', word) != NULL;
}

/* Leaves in `text` what the manual shows of a Lua file, and returns its length. */
static size_t keep_annotations(char *text)
{
    char *out = text;
    char *block = NULL; /* its first annotation */
    char *next;
    for (char *line = text; *line != '\0'; line = next) {
        next = strchr(line, '\n') != NULL ? strchr(line, '\n') + 1 : line + strlen(line);
        if (is_annotation(line)) {
            block = block != NULL ? block : line;
            continue;
        }
        bool wanted = block != NULL && is_public(block, (size_t)(line - block), line, block == text);
        char *begin = wanted ? block : line;
        block = NULL;
        if (!wanted && strncmp(line, "M.", 2) != 0)
            continue;
        memmove(out, begin, (size_t)(next - begin));
        out += next - begin;
    }
    *out = '\0';
    return (size_t)(out - text);
}

static void write_text(FILE *file, struct source *m, size_t index, char *text, size_t len)
{
    if (!m->text)
        len = keep_annotations(text);
    m->text_size = len;
    if (len == 0)
        return;
    struct output out = {.file = file};
    fprintf(file, "static const unsigned char text_%zu[] = \"", index);
    write_bytes(NULL, text, len, &out);
    fprintf(file, "\";\n");
}

/* ---- modules ---- */

static void write_code(lua_State *L, FILE *file, struct source *m, size_t index, const char *text, size_t len)
{
    size_t first = m->command && text[0] == '#' ? strcspn(text, "\n") : 0;
    if (luaL_loadbufferx(L, text + first, len - first, m->chunk, "t") != LUA_OK) {
        fprintf(stderr, "embed: %s: %s\n", m->path, lua_tostring(L, -1));
        exit(1);
    }
    struct output out = {.file = file};
    fprintf(file, "static const unsigned char source_%zu[] = \"", index);
    lua_dump(L, write_bytes, &out, false);
    fprintf(file, "\";\n");
    m->size = out.count;
    lua_settop(L, 0);
}

/* Writes all code before all texts, so that a run touches few pages. */
static void write_sources(lua_State *L, FILE *file, struct source *sources, size_t count)
{
    for (size_t i = 0; i < 2 * count; i++) {
        struct source *m = &sources[i % count];
        bool code = i < count;
        if (code ? !m->used : m->outside && !m->text)
            continue;
        size_t len;
        char *text = read_file(m->path, &len);
        if (code)
            write_code(L, file, m, i, text, len);
        else
            write_text(file, m, i - count, text, len);
        free(text);
    }
}

/* Sorts the modules by name, keeps one of each name and returns their number. */
static size_t settle(struct module *modules, size_t count)
{
    size_t kept = 0;
    qsort(modules, count, sizeof *modules, by_name);
    for (size_t i = 0; i < count; i++) {
        if (kept > 0 && strcmp(modules[i].name, modules[kept - 1].name) == 0)
            continue;
        modules[i].source->used = true;
        modules[kept++] = modules[i];
    }
    return kept;
}

static void write_modules(FILE *file, const struct module *modules, size_t count,
                          const struct source *sources)
{
    fprintf(file, "const struct embedded_module embedded_modules[] = {\n");
    for (size_t i = 0; i < count; i++)
        fprintf(file, "{\"%s\", source_%zu, %zu},\n", modules[i].name, (size_t)(modules[i].source - sources),
                modules[i].source->size);
    fprintf(file, "};\nconst size_t embedded_count = %zu;\n", count);
}

static void write_texts(FILE *file, const struct source *sources, size_t count)
{
    size_t texts = 0;
    fprintf(file, "const struct embedded_text embedded_texts[] = {\n");
    for (size_t i = 0; i < count; i++) {
        if (sources[i].text_size == 0)
            continue;
        fprintf(file, "{\"%s\", text_%zu, %zu},\n", sources[i].chunk + 1, i, sources[i].text_size);
        texts++;
    }
    fprintf(file, "};\nconst size_t embedded_text_count = %zu;\n", texts);
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: embed OUT.c ROOT FILE...\n");
        return 2;
    }
    size_t count = (size_t)(argc - 3);
    size_t names = 0;
    struct source *sources = calloc(count, sizeof *sources);
    struct module *modules = calloc(count * 2, sizeof *modules);
    lua_State *L = luaL_newstate();
    FILE *file = fopen(argv[1], "w");
    if (sources == NULL || modules == NULL || L == NULL || file == NULL) {
        fprintf(stderr, "embed: %s: %s\n", argv[1], strerror(errno));
        return 1;
    }
    for (size_t i = 0; i < count; i++) {
        struct source *s = &sources[i];
        s->path = argv[i + 3];
        name_source(s, argv[2]);
        if (s->text)
            continue;
        modules[names].source = s;
        snprintf(modules[names++].name, sizeof modules->name, "%s", s->name);
        if (!s->outside || s->command)
            continue;
        modules[names].source = s;
        snprintf(modules[names++].name, sizeof modules->name, "dbrun.%s", s->name);
    }
    names = settle(modules, names);
    fprintf(file, "#include \"host/embedded.h\"\n");
    write_sources(L, file, sources, count);
    write_modules(file, modules, names, sources);
    write_texts(file, sources, count);
    lua_close(L);
    free(sources);
    free(modules);
    if (fclose(file) != 0) {
        fprintf(stderr, "embed: %s: %s\n", argv[1], strerror(errno));
        return 1;
    }
    return 0;
}
