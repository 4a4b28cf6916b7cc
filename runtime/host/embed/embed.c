/*
 * Build tool: compiles Lua files and writes them as C arrays.
 *   embed OUT.c ROOT FILE...
 * A file below ROOT becomes the module of its path (lua/dbrun/init.lua -> dbrun). Any other file gets two
 * names: argparse.lua becomes argparse, and dbrun.argparse, by which dbrun's modules require exactly the
 * embedded file; it replaces a file of that name below ROOT, which is for use without the binary. A syntax
 * error stops the build.
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
    bool used;       /* it won over others of its name */
    char name[256];  /* dbrun.config */
    char chunk[300]; /* =dbrun/config.lua; the chunk name of a file begins with @ */
    size_t size;
};

struct module {
    char name[300];
    struct source *source;
};

struct output {
    FILE *file;
    size_t count;
};

static void name_source(struct source *m, const char *root)
{
    size_t root_len = strlen(root);
    const char *rel = m->path;
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
    size_t len = strlen(m->name);
    if (len > 5 && strcmp(m->name + len - 5, ".init") == 0)
        m->name[len - 5] = '\0';
}

/* By name; of the same name the file from outside ROOT first. */
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
    *size = (size_t)len;
    return text;
fail:
    fprintf(stderr, "embed: %s: %s\n", path, strerror(errno));
    exit(1);
}

static int write_bytes(lua_State *L, const void *data, size_t size, void *ud)
{
    (void)L;
    struct output *out = ud;
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i++)
        fprintf(out->file, (out->count + i) % 20 == 19 ? "%u,\n" : "%u,", bytes[i]);
    out->count += size;
    return ferror(out->file);
}

static void write_source(lua_State *L, FILE *file, struct source *m, size_t index)
{
    size_t len;
    char *text = read_file(m->path, &len);
    if (luaL_loadbufferx(L, text, len, m->chunk, "t") != LUA_OK) {
        fprintf(stderr, "embed: %s: %s\n", m->path, lua_tostring(L, -1));
        exit(1);
    }
    struct output out = {.file = file};
    fprintf(file, "static const unsigned char source_%zu[] = {\n", index);
    lua_dump(L, write_bytes, &out, false);
    fprintf(file, "};\n");
    m->size = out.count;
    lua_settop(L, 0);
    free(text);
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

static void write_table(FILE *file, const struct module *modules, size_t count, const struct source *sources)
{
    fprintf(file, "const struct embedded_module embedded_modules[] = {\n");
    for (size_t i = 0; i < count; i++)
        fprintf(file, "{\"%s\", source_%zu, %zu},\n", modules[i].name, (size_t)(modules[i].source - sources),
                modules[i].source->size);
    fprintf(file, "};\nconst size_t embedded_count = %zu;\n", count);
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
        modules[names].source = s;
        snprintf(modules[names++].name, sizeof modules->name, "%s", s->name);
        if (!s->outside)
            continue;
        modules[names].source = s;
        snprintf(modules[names++].name, sizeof modules->name, "dbrun.%s", s->name);
    }
    names = settle(modules, names);
    fprintf(file, "#include \"host/embedded.h\"\n");
    for (size_t i = 0; i < count; i++)
        if (sources[i].used)
            write_source(L, file, &sources[i], i);
    write_table(file, modules, names, sources);
    lua_close(L);
    free(sources);
    free(modules);
    if (fclose(file) != 0) {
        fprintf(stderr, "embed: %s: %s\n", argv[1], strerror(errno));
        return 1;
    }
    return 0;
}
